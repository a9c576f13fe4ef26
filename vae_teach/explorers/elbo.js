// The ELBO explorer: one latent, so that evidence, posterior and gap are all exact.

import {
  begin, build, clamp, drag, fixed, glide, lerp, listen, on, perFrame, slider, speaker, theme,
  write,
} from "./shared.js";

const NOISE = 0.5; // sd of p(x|z)
const REACH = 4; // the picture shows z from -4 to 4
const LOG_2PI = Math.log(2 * Math.PI);

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Model</legend>
    <label><input type="radio" name="model" value="line" data-in="line">
      line: x = z + noise</label>
    <label><input type="radio" name="model" value="fold" data-in="fold">
      fold: x = z² + noise</label>
  </fieldset>
  <div class="vx-row">
    <button type="button" data-do="best">Best q</button>
    <button type="button" data-do="reset">Reset</button>
  </div>
</div>
<p class="vx-key" aria-hidden="true">
  <span class="vx-key-q">q(z), yours</span>
  <span class="vx-key-posterior">p(z|x), the true posterior</span>
  <span class="vx-key-prior">p(z), the prior</span>
</p>
<canvas class="vx-density" data-canvas="density" role="img"
  aria-label="Densities over z: prior, true posterior and q. The sliders move q."></canvas>
<div class="vx-triple">
  ${slider("x", "observed x", { min: -3, max: 5, step: 0.01 })}
  ${slider("mean", "mean of q", { min: -3, max: 3, step: 0.01 })}
  ${slider("logScale", "scale of q", { min: -3, max: 0.7, step: 0.01 })}
</div>
<dl class="vx-readouts">
  <div><dt>log p(x)</dt><dd><b data-out="evidence"></b> nats</dd></div>
  <div><dt>ELBO</dt><dd><b data-out="elbo"></b> nats</dd></div>
  <div><dt>Gap, log p(x) − ELBO</dt><dd><b data-out="gap"></b> nats</dd></div>
  <div><dt>KL(q ‖ p(z|x))</dt><dd><b data-out="kl"></b> nats</dd></div>
</dl>
<canvas class="vx-bar" data-canvas="bar" role="img"
  aria-label="The ELBO below log p(x); the read-outs say the same"></canvas>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<p class="vx-evidence">ELBO in closed form; log p(x) and the KL each by a sum over 4,001
  points: that gap and KL agree is computed, not assumed.</p>`;

/* ---- the model, exactly ----------------------------------------------------------- */

const logNormal = (x, mean, sd) =>
  -0.5 * (((x - mean) / sd) ** 2 + LOG_2PI) - Math.log(sd);

const curve = (model, z) => (model === "line" ? z : z * z);
const logJoint = (model, x, z) =>
  logNormal(z, 0, 1) + logNormal(x, curve(model, z), NOISE);

/** ∫ f over [low, high] by the trapezoid rule, on 4,001 points. */
function integral(f, low, high, points = 4001) {
  const step = (high - low) / (points - 1);
  let sum = 0.5 * (f(low) + f(high));
  for (let i = 1; i < points - 1; i++) sum += f(low + i * step);
  return sum * step;
}

/** log p(x) = log ∫ p(z) p(x|z) dz, shifted by its largest term. */
function logEvidence(model, x) {
  let top = -Infinity;
  for (let z = -9; z <= 9; z += 0.01) top = Math.max(top, logJoint(model, x, z));
  return top + Math.log(integral((z) => Math.exp(logJoint(model, x, z) - top), -9, 9));
}

/** E_q[(x - f(z))²] by the moments of a normal. */
function squaredError(model, x, m, s) {
  if (model === "line") return (x - m) ** 2 + s * s;
  const second = m * m + s * s, fourth = m ** 4 + 6 * m * m * s * s + 3 * s ** 4;
  return x * x - 2 * x * second + fourth;
}

/** Rate, distortion and ELBO of q = N(m, s²), in closed form. */
function bound(model, x, m, s) {
  const error = squaredError(model, x, m, s) / NOISE ** 2;
  const distortion = 0.5 * (error + LOG_2PI) + Math.log(NOISE);
  const rate = 0.5 * (s * s + m * m - 1) - Math.log(s);
  return { rate, distortion, elbo: -rate - distortion };
}

/** KL(q || p(z|x)) = ∫ q log q/p(z|x), the posterior as joint over evidence. */
function divergence(model, x, m, s, evidence) {
  const term = (z) => {
    const logQ = logNormal(z, m, s);
    return Math.exp(logQ) * (logQ - logJoint(model, x, z) + evidence);
  };
  return integral(term, m - 10 * s, m + 10 * s);
}

/** The nearest maximum of the ELBO over (m, log s): gradient steps that never go down. */
function bestFrom(model, x, m, s) {
  const value = (v) => bound(model, x, v[0], Math.exp(v[1])).elbo;
  let at = [m || 1e-3, Math.log(s)], step = 0.1; // off the ridge between two modes
  for (let k = 0; k < 4000 && step > 1e-12; k++) {
    const slope = [0, 1].map((j) => {
      const moved = (h) => value(at.map((v, i) => (i === j ? v + h : v)));
      return (moved(1e-5) - moved(-1e-5)) / 2e-5;
    });
    const next = at.map((v, i) => v + step * slope[i]);
    const better = value(next) > value(at);
    if (better) at = next;
    step *= better ? 1.3 : 0.5;
  }
  return { mean: at[0], scale: Math.exp(at[1]) };
}

/* ---- pictures --------------------------------------------------------------------- */

function area({ pen, w }, base, height, f) {
  pen.beginPath();
  pen.moveTo(0, base);
  for (let p = 0; p <= w; p++) pen.lineTo(p, base - height * f((2 * p / w - 1) * REACH));
  pen.lineTo(w, base);
}

function drawDensities(canvas, inks, s, evidence) {
  const sheet = begin(canvas), { pen, w, h } = sheet, base = h - 24;
  const prior = (z) => Math.exp(logNormal(z, 0, 1));
  const posterior = (z) => Math.exp(logJoint(s.model, s.x, z) - evidence);
  const q = (z) => Math.exp(logNormal(z, s.mean, s.scale));
  const peak = Math.max(q(s.mean), ...Array.from({ length: 401 }, (_, i) => posterior(i / 50 - 4)));
  const height = (base - 14) / Math.max(peak, 0.5);
  pen.strokeStyle = inks.line;
  pen.fillStyle = inks.muted;
  pen.lineWidth = 1;
  for (let z = -REACH; z <= REACH; z++) {
    const x = (z / REACH + 1) * w / 2;
    if (Math.abs(z) < REACH) write(pen, fixed(z, 0), x, h - 7, { align: "center" });
    pen.beginPath();
    pen.moveTo(x, base);
    pen.lineTo(x, base + 4);
    pen.stroke();
  }
  write(pen, "z", w - 12, h - 7);
  area(sheet, base, height, posterior);
  pen.fillStyle = inks.latent;
  pen.globalAlpha = 0.28;
  pen.fill();
  pen.globalAlpha = 1;
  pen.strokeStyle = inks.latent;
  pen.lineWidth = 2;
  pen.stroke();
  area(sheet, base, height, prior);
  pen.strokeStyle = inks.muted;
  pen.setLineDash([5, 4]);
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.setLineDash([]);
  area(sheet, base, height, q);
  pen.fillStyle = inks.encoder;
  pen.globalAlpha = 0.14;
  pen.fill();
  pen.globalAlpha = 1;
  pen.strokeStyle = inks.encoder;
  pen.lineWidth = 3;
  pen.stroke();
}

/** ELBO and log p(x) on one axis, with the gap between them. */
function drawBar(canvas, inks, { elbo, evidence }) {
  const { pen, w } = begin(canvas), low = Math.min(-8, Math.floor(evidence) - 6);
  const X = (v) => clamp((v - low) / (0 - low), 0, 1) * w;
  const top = 22, tall = 18;
  pen.fillStyle = inks.soft;
  pen.fillRect(0, top, w, tall);
  pen.fillStyle = inks.muted;
  pen.fillRect(0, top, X(elbo), tall);
  pen.fillStyle = inks.encoder;
  pen.fillRect(X(elbo), top, Math.max(X(evidence) - X(elbo), 0), tall);
  pen.fillStyle = inks.ink;
  pen.fillRect(X(evidence) - 1, top - 5, 2, tall + 10);
  const align = X(evidence) > w - 60 ? "right" : "center";
  write(pen, "log p(x)", X(evidence), top - 9, { align, weight: 600 });
  pen.fillStyle = inks.muted;
  write(pen, `${fixed(low, 0)} nats`, 0, top + tall + 16);
  write(pen, "0", w, top + tall + 16, { align: "right" });
  if (X(evidence) - X(elbo) > 34) {
    pen.fillStyle = inks.paper;
    const middle = (X(elbo) + X(evidence)) / 2;
    write(pen, "gap", middle, top + 13.5, { align: "center", weight: 600 });
  }
}

/* ---- the explorer ----------------------------------------------------------------- */

function render({ model, el }) {
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "elbo", label: "ELBO explorer", markup: MARKUP,
  });
  const names = ["model", "x", "mean", "scale"];
  const initial = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  let s = { ...initial }, stopGlide = () => {};

  const numbers = () => {
    const evidence = logEvidence(s.model, s.x);
    const kl = divergence(s.model, s.x, s.mean, s.scale, evidence);
    const parts = bound(s.model, s.x, s.mean, s.scale);
    return { ...parts, evidence, kl, gap: evidence - parts.elbo };
  };
  const names3 = ["evidence", "elbo", "gap", "kl"];
  const speak = speaker(root.querySelector(".vx-note"));
  const report = (now) => {
    inputs[s.model].checked = true;
    Object.assign(inputs.x, { value: s.x });
    Object.assign(inputs.mean, { value: s.mean });
    Object.assign(inputs.logScale, { value: Math.log(s.scale) });
    inputs.logScale.setAttribute("aria-valuetext", fixed(s.scale));
    outputs.x.value = fixed(s.x);
    outputs.mean.value = fixed(s.mean);
    outputs.logScale.value = fixed(s.scale);
    for (const name of names3) outputs[name].textContent = fixed(now[name], 3);
    speak(`ELBO ${fixed(now.elbo)} = −rate ${fixed(now.rate)} − distortion `
      + `${fixed(now.distortion)}. It lies ${fixed(now.gap, 3)} nats below `
      + `log p(x) = ${fixed(now.evidence)}: exactly KL(q ‖ p(z|x)).`);
  };
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "encoder", "latent", "paper", "soft"], () => redraw());
  const draw = () => {
    const now = numbers();
    report(now);
    drawDensities(canvases.density, inks, s, now.evidence);
    drawBar(canvases.bar, inks, now);
  };
  const redraw = perFrame(draw);
  const tell = () => {
    for (const name of names) model.set(name, s[name]);
    model.save_changes();
  };
  const change = (values) => {
    stopGlide();
    Object.assign(s, values);
    redraw();
  };

  const glideTo = (goal) => {
    stopGlide();
    const from = { ...s };
    stopGlide = glide((u) => {
      s.mean = lerp(from.mean, goal.mean, u);
      s.scale = Math.exp(lerp(Math.log(from.scale), Math.log(goal.scale), u));
      redraw();
    }, tell);
  };

  on(inputs.x, "input", () => change({ x: +inputs.x.value }));
  on(inputs.mean, "input", () => change({ mean: +inputs.mean.value }));
  on(inputs.logScale, "input", () => change({ scale: Math.exp(+inputs.logScale.value) }));
  for (const name of ["line", "fold"]) on(inputs[name], "change", () => change({ model: name }));
  on(buttons.best, "click", () => glideTo(bestFrom(s.model, s.x, s.mean, s.scale)));
  on(buttons.reset, "click", () => {
    change(initial);
    tell();
  });
  on(root, "change", tell);
  const toMean = ([x]) => change({ mean: clamp((2 * x - 1) * REACH, -3, 3) });
  drag(canvases.density, { down: toMean, move: toMean, up: tell });
  const unlisten = listen(model, names, (name) => s[name], change);

  outputs.notice.textContent = model.get("notice");
  read();
  draw();
  root.explorer = { logEvidence, bound, divergence, bestFrom, change, draw, state: () => s };
  return () => {
    stop();
    redraw.cancel();
    stopGlide();
    unlisten();
  };
}

export default { render };
