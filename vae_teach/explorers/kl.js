// The KL explorer: reverse and forward divergence between a normal q and a target p.

import {
  begin, build, clamp, drag, fixed, glide, lerp, listen, on, perFrame, slider, speaker, theme,
  write,
} from "./shared.js";

const REACH = 6; // the picture shows x from -6 to 6
const HUMP = 0.5; // scale of each of the two humps
const LOG_2PI = Math.log(2 * Math.PI);
const FLOOR = -0.4, CEILING = 1.5; // of both integrands: their areas compare

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Target p</legend>
    <label><input type="radio" name="target" value="normal" data-in="normal">
      one normal</label>
    <label><input type="radio" name="target" value="humps" data-in="humps">
      two humps</label>
  </fieldset>
  <div class="vx-row">
    <button type="button" data-do="reverse">Best reverse q</button>
    <button type="button" data-do="forward">Best forward q</button>
    <button type="button" data-do="reset">Reset</button>
  </div>
</div>
<p class="vx-key" aria-hidden="true">
  <span class="vx-key-q">q(x), yours: drag it</span>
  <span class="vx-key-posterior">p(x), the target</span>
</p>
<canvas class="vx-density" data-canvas="density" role="img"
  aria-label="Densities of p and q over x. The sliders move both."></canvas>
<figure class="vx-area">
  <figcaption><span>Reverse, KL(q ‖ p) <small>area of q log (q/p)</small></span>
    <span><b data-out="reverse"></b> nats</span></figcaption>
  <canvas data-canvas="reverse" role="img"
    aria-label="q log (q/p) over x: its signed area is the read-out above"></canvas>
</figure>
<figure class="vx-area">
  <figcaption><span>Forward, KL(p ‖ q) <small>area of p log (p/q)</small></span>
    <span><b data-out="forward"></b> nats</span></figcaption>
  <canvas data-canvas="forward" role="img"
    aria-label="p log (p/q) over x: its signed area is the read-out above"></canvas>
</figure>
<div class="vx-four">
  ${slider("mean", "mean of q", { min: -5, max: 5, step: 0.01 })}
  ${slider("logScale", "scale of q", { min: -1.6, max: 1.5, step: 0.01 })}
  ${slider("p_mean", "mean of p", { min: -4, max: 4, step: 0.01 })}
  ${slider("logPScale", "scale of p", { min: -1.2, max: 0.9, step: 0.01 })}
  ${slider("separation", "separation", { min: 0, max: 8, step: 0.01 })}
  ${slider("weight", "weight, right", { min: 0.05, max: 0.95, step: 0.01 })}
</div>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<p class="vx-evidence">Areas below zero are hatched and count as negative. Between normals both
  divergences are in closed form; on two humps, each is a sum over 2,001 points. The best
  forward q is exact; the best reverse q is searched for.</p>`;

/* ---- the densities ---------------------------------------------------------------- */

const logNormal = (x, mean, sd) => -0.5 * (((x - mean) / sd) ** 2 + LOG_2PI) - Math.log(sd);

/** The target's parts, as [weight, mean, scale]. */
const partsOf = ({ target, p_mean: mean, p_scale: scale, separation, weight }) =>
  target === "normal" ? [[1, mean, scale]]
    : [[1 - weight, -separation / 2, HUMP], [weight, separation / 2, HUMP]];

/** log p(x), by the larger part so that neither tail runs out of numbers. */
function logTarget(parts, x) {
  let log = -Infinity;
  for (const [w, m, s] of parts) {
    const part = Math.log(w) + logNormal(x, m, s);
    log = Math.max(log, part) + Math.log1p(Math.exp(-Math.abs(log - part)));
  }
  return log;
}

/** Mean and scale of p. */
function momentsOf(parts) {
  const expect = (f) => parts.reduce((sum, part) => sum + part[0] * f(part), 0);
  const mean = expect(([, m]) => m);
  return { mean, scale: Math.sqrt(expect(([, m, s]) => s * s + (m - mean) ** 2)) };
}

/* ---- the divergences -------------------------------------------------------------- */

/** ∫ f over [low, high] by the trapezoid rule. */
function integral(f, low, high, points = 2001) {
  const step = (high - low) / (points - 1);
  let sum = 0.5 * (f(low) + f(high));
  for (let i = 1; i < points - 1; i++) sum += f(low + i * step);
  return sum * step;
}

/** KL(N(m, s²) || N(mean, scale²)). */
const closedForm = (m, s, mean, scale) =>
  Math.log(scale / s) + (s * s + (m - mean) ** 2) / (2 * scale * scale) - 0.5;

/** What the areas are of: q log (q/p) and p log (p/q) at x. */
function integrands(parts, { mean, scale }, x) {
  const logQ = logNormal(x, mean, scale), logP = logTarget(parts, x), gap = logQ - logP;
  return { reverse: Math.exp(logQ) * gap, forward: -Math.exp(logP) * gap };
}

/** KL(q || p) and KL(p || q), in nats. */
function divergences(parts, q) {
  if (parts.length === 1) {
    const [[, m, s]] = parts;
    return {
      reverse: closedForm(q.mean, q.scale, m, s), forward: closedForm(m, s, q.mean, q.scale),
    };
  }
  const area = (name, low, high) =>
    integral((x) => integrands(parts, q, x)[name], low, high);
  const ends = parts.flatMap(([, m, s]) => [m - 10 * s, m + 10 * s]);
  return {
    reverse: area("reverse", q.mean - 10 * q.scale, q.mean + 10 * q.scale),
    forward: area("forward", Math.min(...ends), Math.max(...ends)),
  };
}

/* ---- the best q ------------------------------------------------------------------- */

const NODES = Array.from({ length: 161 }, (_, i) => 0.075 * (i - 80)); // of N(0, 1), to 6
const MASSES = NODES.map((e) => 0.075 * Math.exp(logNormal(e, 0, 1)));

/** KL(q || p) by a sum over x = m + s e, and minus its slopes along m and log s. */
function reverseAt(parts, { mean, scale }) {
  let value = -0.5 * (LOG_2PI + 1) - Math.log(scale), pull = 0, widen = 1;
  for (let i = 0; i < NODES.length; i++) {
    const x = mean + scale * NODES[i], log = logTarget(parts, x);
    let slope = 0; // d log p / dx
    for (const [w, m, s] of parts) {
      slope += w * Math.exp(logNormal(x, m, s) - log) * (m - x) / (s * s);
    }
    value -= MASSES[i] * log;
    pull += MASSES[i] * slope;
    widen += MASSES[i] * slope * NODES[i] * scale;
  }
  return { mean, scale, value, pull, widen };
}

/** A minimum of KL(q || p) near q: natural-gradient steps that never go up. */
function descend(parts, q) {
  let at = reverseAt(parts, q), step = 1;
  for (let k = 0; k < 100 && step > 1e-9; k++) {
    const next = reverseAt(parts, {
      mean: at.mean + step * at.scale ** 2 * at.pull,
      scale: at.scale * Math.exp(clamp(step * at.widen / 2, -1, 1)),
    });
    const gain = at.value - next.value;
    if (gain >= 0) at = next;
    if (gain >= 0 && gain < 1e-9) break;
    step = gain >= 0 ? Math.min(1, 1.5 * step) : step / 2;
  }
  return at;
}

/** The q of least KL(q || p); of several as good, the one nearest to the present q. */
function bestReverse(parts, q) {
  const starts = [q, momentsOf(parts), ...parts.map(([, mean, scale]) => ({ mean, scale }))];
  const found = starts.map((start) => descend(parts, start));
  const least = Math.min(...found.map((end) => end.value));
  const far = ({ mean }) => Math.abs(mean - q.mean);
  return found.filter((end) => end.value < least + 1e-6).sort((a, b) => far(a) - far(b))[0];
}

/* ---- pictures --------------------------------------------------------------------- */

/** The outline of f, a little wider than the picture, from and to the line y = base. */
function outline({ pen, w }, base, height, f) {
  pen.beginPath();
  pen.moveTo(-4, base);
  for (let p = -4; p <= w + 4; p++) {
    pen.lineTo(p, base - height * f((2 * p / w - 1) * REACH));
  }
  pen.lineTo(w + 4, base);
}

const across = (w, x) => (x / REACH + 1) * w / 2;

function paint({ pen }, colour, fill, width) {
  Object.assign(pen, { fillStyle: colour, strokeStyle: colour, lineWidth: width });
  pen.globalAlpha = fill;
  pen.fill();
  pen.globalAlpha = 1;
  pen.stroke();
}

function axis({ pen, w, h }, inks, base) {
  Object.assign(pen, { strokeStyle: inks.line, fillStyle: inks.muted, lineWidth: 1 });
  for (let x = 2 - REACH; x < REACH; x += 2) {
    write(pen, fixed(x, 0), across(w, x), h - 7, { align: "center" });
    pen.beginPath();
    pen.moveTo(across(w, x), base);
    pen.lineTo(across(w, x), base + 4);
    pen.stroke();
  }
  write(pen, "x", w - 12, h - 7);
}

/** The curves' common scale, and where q may be taken: at its top, and one scale away. */
function layout(canvas, parts, { mean, scale }) {
  const w = canvas.clientWidth, base = canvas.clientHeight - 24;
  const q = (x) => Math.exp(logNormal(x, mean, scale));
  const p = (x) => Math.exp(logTarget(parts, x));
  const peak = Math.max(q(mean), ...parts.map(([, m]) => p(m)));
  const height = (base - 16) / Math.max(peak, 0.5);
  const grip = (x, part) => ({ part, x: across(w, x), y: base - height * q(x) });
  const grips = [grip(mean, "mean"), grip(mean - scale, "scale"), grip(mean + scale, "scale")];
  return { p, q, base, height, grips };
}

function drawDensities(canvas, inks, parts, s) {
  const sheet = begin(canvas), { pen } = sheet;
  const { p, q, base, height, grips } = layout(canvas, parts, s);
  axis(sheet, inks, base);
  outline(sheet, base, height, p);
  paint(sheet, inks.latent, 0.28, 2);
  outline(sheet, base, height, q);
  paint(sheet, inks.encoder, 0.14, 3);
  for (const { part, x, y } of grips) {
    pen.beginPath();
    pen.arc(x, y, part === "mean" ? 6 : 4.5, 0, 2 * Math.PI);
    Object.assign(pen, { fillStyle: inks.paper, lineWidth: 2.5 });
    pen.fill();
    pen.stroke();
  }
}

/** One integrand, as far as the strip is high: hatched below zero. */
function drawArea(canvas, inks, colour, f) {
  const sheet = begin(canvas), { pen, w, h } = sheet;
  const height = h / (CEILING - FLOOR), base = CEILING * height;
  const values = Array.from({ length: w + 1 }, (_, p) => f((2 * p / w - 1) * REACH));
  const kept = (low, high) => (x) =>
    clamp(values[clamp(Math.round(across(w, x)), 0, w)], low, high);
  drawUnit(sheet, inks, base, height);
  outline(sheet, base, height, kept(0, CEILING + 0.1));
  paint(sheet, colour, 0.3, 2);
  outline(sheet, base, height, kept(FLOOR - 0.1, 0));
  pen.lineWidth = 2;
  pen.stroke();
  pen.save();
  pen.clip();
  pen.lineWidth = 1;
  pen.beginPath();
  for (let x = -h; x < w; x += 6) {
    pen.moveTo(x, h);
    pen.lineTo(x + h, 0);
  }
  pen.stroke();
  pen.restore();
  pen.fillStyle = inks.muted;
  pen.fillRect(0, base - 0.5, w, 1);
  markCut(sheet, inks, values);
}

/** The unit of area: 1 wide and 1 high. */
function drawUnit({ pen, w }, inks, base, height) {
  const wide = w / (2 * REACH);
  Object.assign(pen, { strokeStyle: inks.muted, fillStyle: inks.muted, lineWidth: 1 });
  pen.globalAlpha = 0.8;
  pen.setLineDash([3, 3]);
  pen.strokeRect(6.5, Math.round(base - height) + 0.5, Math.round(wide), Math.round(height));
  pen.setLineDash([]);
  pen.globalAlpha = 1;
  write(pen, "1 nat", 12 + wide, base - height + 10);
}

/** How high the curve is where the strip cuts it off, said beside the cut. */
function markCut({ pen, w }, inks, values) {
  const top = Math.max(...values), cut = (v) => v > CEILING;
  if (!cut(top)) return;
  const left = values.findIndex(cut), right = values.findLastIndex(cut), onRight = right < w - 70;
  pen.fillStyle = inks.ink;
  write(pen, `↑ to ${fixed(top, 1)}`, onRight ? right + 12 : left - 12, 15,
    { align: onRight ? "left" : "right", halo: inks.soft });
}

/* ---- what is seen ----------------------------------------------------------------- */

const percent = (share) => `${fixed(100 * share, 0)}%`;

/** How much of p lies beyond m ± 3s of q; of q, where p is below 1% of its peak. */
function shares(parts, { mean, scale }) {
  const p = (x) => Math.exp(logTarget(parts, x));
  const peak = Math.max(...parts.map(([, m]) => p(m)));
  const q = (x) => Math.exp(logNormal(x, mean, scale));
  const covered = integral(p, mean - 3 * scale, mean + 3 * scale);
  const idle = integral((x) => (p(x) < 0.01 * peak ? q(x) : 0),
    mean - 8 * scale, mean + 8 * scale);
  return { missed: clamp(1 - covered, 0, 1), idle };
}

function sentence(parts, s, kept, now) {
  if (now.reverse < 5e-4 && now.forward < 5e-4) return "q is p: both divergences are zero.";
  const { missed, idle } = shares(parts, s);
  if (kept === "reverse") {
    const weight = s.mean > 0 ? s.weight : 1 - s.weight;
    return missed < 0.75 * (1 - weight) ? "The humps are near: the best reverse q covers both."
      : "Mode-seeking: the best reverse q keeps to one hump. To leave the other out costs about "
        + `−log ${fixed(weight)} = ${fixed(-Math.log(weight))} nats.`;
  }
  if (kept === "forward") {
    return "Mass-covering: the best forward q has p’s mean and scale, although "
      + `${percent(idle)} of q then lies where p is nearly empty.`;
  }
  return `${percent(missed)} of p lies beyond three scales of q, which weighs in the forward KL; `
    + `${percent(idle)} of q lies where p is nearly empty, which weighs in the reverse.`;
}

/* ---- the explorer ----------------------------------------------------------------- */

const NAMES = ["target", "p_mean", "p_scale", "separation", "weight", "mean", "scale"];
const PLAIN = ["mean", "p_mean", "separation", "weight"];
const LOGS = { logScale: "scale", logPScale: "p_scale" };
const BEST = { reverse: bestReverse, forward: momentsOf };
const SHOWN = { normal: ["p_mean", "logPScale"], humps: ["separation", "weight"] };

function render({ model, el }) {
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "kl", label: "KL explorer", markup: MARKUP,
  });
  const initial = Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
  let s = { ...initial }, stopGlide = () => {}, kept = null;
  const speak = speaker(root.querySelector(".vx-note"));

  const report = (parts, now) => {
    inputs[s.target].checked = true;
    for (const [target, names] of Object.entries(SHOWN)) {
      for (const name of names) inputs[name].parentElement.hidden = target !== s.target;
    }
    for (const name of PLAIN) {
      inputs[name].value = s[name];
      outputs[name].value = fixed(s[name]);
    }
    for (const [name, of] of Object.entries(LOGS)) {
      inputs[name].value = Math.log(s[of]);
      inputs[name].setAttribute("aria-valuetext", fixed(s[of]));
      outputs[name].value = fixed(s[of]);
    }
    for (const name of ["reverse", "forward"]) {
      outputs[name].textContent = fixed(now[name], now[name] < 100 ? 3 : 1);
    }
    for (const name of Object.keys(BEST)) {
      buttons[name].setAttribute("aria-pressed", name === kept);
    }
    speak(sentence(parts, s, kept, now));
  };
  const colours = ["ink", "muted", "line", "encoder", "latent", "paper", "soft"];
  const { inks, read, stop } = theme(root, colours, () => redraw());
  const draw = () => {
    const parts = partsOf(s);
    report(parts, divergences(parts, s));
    drawDensities(canvases.density, inks, parts, s);
    const of = (name) => (x) => integrands(parts, s, x)[name];
    drawArea(canvases.reverse, inks, inks.encoder, of("reverse"));
    drawArea(canvases.forward, inks, inks.latent, of("forward"));
  };
  const redraw = perFrame(draw);
  const tell = () => {
    for (const name of NAMES) model.set(name, s[name]);
    model.save_changes();
  };
  const best = () => BEST[kept](partsOf(s), s);
  /** A best q follows its target, until q is moved by hand. */
  const change = (values) => {
    stopGlide();
    Object.assign(s, values);
    if ("mean" in values || "scale" in values) kept = null;
    if (kept) moveTo(best());
    redraw();
  };
  const moveTo = ({ mean, scale }) => Object.assign(s, { mean, scale });
  const keep = (name) => {
    stopGlide();
    kept = name;
    const from = { ...s }, goal = best();
    stopGlide = glide((u) => {
      moveTo({
        mean: lerp(from.mean, goal.mean, u),
        scale: Math.exp(lerp(Math.log(from.scale), Math.log(goal.scale), u)),
      });
      redraw();
    }, tell);
  };

  for (const name of PLAIN) {
    on(inputs[name], "input", () => change({ [name]: +inputs[name].value }));
  }
  for (const [name, of] of Object.entries(LOGS)) {
    on(inputs[name], "input", () => change({ [of]: Math.exp(+inputs[name].value) }));
  }
  for (const name of ["normal", "humps"]) {
    on(inputs[name], "change", () => change({ target: name }));
  }
  for (const name of Object.keys(BEST)) on(buttons[name], "click", () => keep(name));
  on(buttons.reset, "click", () => {
    change(initial);
    tell();
  });
  on(root, "change", tell);

  const grips = () => layout(canvases.density, partsOf(s), s).grips;
  let taken = "mean"; // what the pointer took of q
  const follow = ([u]) => {
    const x = (2 * u - 1) * REACH;
    if (taken === "mean") change({ mean: clamp(x, -5, 5) });
    else change({ scale: clamp(Math.abs(x - s.mean), 0.2, 4.48) });
  };
  drag(canvases.density, {
    down([u, v]) {
      const { clientWidth: w, clientHeight: h } = canvases.density;
      const away = ({ x, y }) => Math.hypot(x - u * w, y - v * h);
      const near = grips().sort((a, b) => away(a) - away(b))[0];
      taken = away(near) < 20 ? near.part : "mean";
      follow([u]);
    },
    move: follow,
    up: tell,
  });
  const unlisten = listen(model, NAMES, (name) => s[name], change);

  outputs.notice.textContent = model.get("notice");
  read();
  draw();
  root.explorer = { partsOf, divergences, bestReverse, grips, change, draw, state: () => s };
  return () => {
    stop();
    redraw.cancel();
    stopGlide();
    unlisten();
  };
}

export default { render };
