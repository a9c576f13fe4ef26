// The loss-scale explorer: a loss as it is written, and the linear VAE that minimises it.

import { PIXELS, painter } from "./digits.js";
import {
  begin, build, clamp, fixed, on, perFrame, slider, speaker, stateOf, theme, unpack, write,
} from "./shared.js";

const TERMS = { error: ["over_pixels", "error_over_batch"], kl: ["over_latents", "kl_over_batch"] };
const WEIGHTS = ["error_weight", "kl_weight"], SIZES = ["pixels", "latents", "batch"];
const OWN = "your own";

const number = (name, label, aria, more = "") => `<div class="vx-field"><span>${label}</span>
  ${more}<input type="number" min="0" step="any" inputmode="decimal" data-in="${name}"
    aria-label="${aria}"></div>`;
const reduced = (name, label, aria) => `<div class="vx-field"><span>${label}</span>
  <select data-in="${name}" aria-label="${aria}"><option>sum</option><option>mean</option>
  </select></div>`;
const half = '<label class="vx-half"><input type="checkbox" data-in="half"> ½</label>';

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<label class="vx-whose"><b>A loss as in</b> <select data-in="preset"></select></label>
<p class="vx-one" data-out="about"></p>
<div class="vx-recipe">
  <fieldset><legend>Squared error</legend>
    ${number("error_weight", "weight", "weight of the squared error", half)}
    ${reduced("over_pixels", "over pixels", "squared error, over pixels")}
    ${reduced("error_over_batch", "over batch", "squared error, over the batch")}
  </fieldset>
  <fieldset><legend>KL</legend>
    ${number("kl_weight", "weight", "weight of the KL")}
    ${reduced("over_latents", "over latents", "KL, over latents")}
    ${reduced("kl_over_batch", "over batch", "KL, over the batch")}
  </fieldset>
  <fieldset><legend>Sizes</legend>
    ${number("pixels", "pixels D", "number of pixels")}
    ${number("latents", "latents d", "number of latents")}
    ${number("batch", "batch B", "examples a batch")}
  </fieldset>
</div>
<p class="vx-formula">
  <span>loss ∝ <b>a SSE + b KL</b></span>
  <span>a = <b data-out="a"></b></span>
  <span>b = <b data-out="b"></b></span>
  <span class="vx-result">σ² = b/2a = <b data-out="variance"></b></span>
  <span class="vx-same" data-out="beta"></span>
</p>
<dl class="vx-readouts">
  <div><dt>Decoder's σ</dt><dd><b data-out="scale"></b></dd></div>
  <div><dt>Latents in use</dt>
    <dd><b data-out="active"></b> of <span data-out="d"></span></dd></div>
  <div><dt>Rate, the KL</dt><dd><b data-out="rate"></b> nats</dd></div>
  <div><dt>Squared error</dt>
    <dd><b data-out="error"></b> of <span data-out="total"></span></dd></div>
</dl>
<div class="vx-foot">
  <p class="vx-note" aria-live="polite"></p>
  <button type="button" data-do="reset">Reset</button>
</div>
<div class="vx-spectrum">
  <figure><figcaption>Eigenvalues of MNIST <small data-out="whose"></small></figcaption>
    <canvas class="vx-scree" data-canvas="scree" role="img"
      aria-label="Eigenvalues of the covariance, falling, on a logarithmic scale, with a line
        at the implied variance; the note says how many are above it"></canvas>
    ${slider("dial", "weight of the KL", { min: -6, max: 3, step: 0.02 })}
  </figure>
  <figure><figcaption>x and x̂</figcaption>
    <canvas class="vx-pairs" data-canvas="pairs" role="img"
      aria-label="Five test digits, each beside its reconstruction"></canvas>
  </figure>
</div>
<p class="vx-key" aria-hidden="true">
  <span class="vx-key-used">above σ²: ½ log(λᵢ/σ²) is that latent's KL</span>
  <span class="vx-key-spare">above σ², but no latent left</span>
  <span class="vx-key-off">switched off</span>
</p>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- numbers for people ------------------------------------------------------------ */

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** Three digits that count, with a power of ten where there would be many zeros. */
function short(x) {
  if (x === 0) return "0";
  if (x >= 1000 && x < 1e7) return Math.round(x).toLocaleString("en");
  if (x >= 0.0001 && x < 1000) return String(Number(x.toPrecision(3)));
  const [digits, power] = x.toExponential(2).split("e");
  const raised = [...String(Math.abs(power))].map((d) => RAISED[d]).join("");
  return `${Number(digits)} × 10${power < 0 ? "⁻" : ""}${raised}`;
}

/** A weight over the sizes of its means, as a fraction and as a number. */
function fraction(weight, half, sizes) {
  const value = (half ? weight / 2 : weight) / sizes.reduce((p, n) => p * n, 1);
  const top = half ? (weight === 1 ? "½" : `½ · ${short(weight)}`) : short(weight);
  if (!sizes.length && (!half || weight === 1)) return { value, text: top };
  const under = sizes.map(short).join(" · ");
  const bottom = sizes.length > 1 ? ` / (${under})` : sizes.length ? ` / ${under}` : "";
  return { value, text: `${top}${bottom} = ${short(value)}` };
}

/* ---- the linear VAE, exactly ------------------------------------------------------- */

/** The weights of an example's SSE and KL, up to one factor, and the variance implied. */
function scaleOf(s) {
  const [one, other] = [TERMS.error[1], TERMS.kl[1]];
  const sizes = (names, own) => [
    ...(s[names[0]] === "mean" ? [s[own]] : []),
    ...(s[one] !== s[other] && s[names[1]] === "mean" ? [s.batch] : []), // else it cancels
  ];
  const a = fraction(s.error_weight, s.half, sizes(TERMS.error, "pixels"));
  const b = fraction(s.kl_weight, false, sizes(TERMS.kl, "latents"));
  return { a, b, variance: b.value / (2 * a.value) };
}

/** Latents in use, nats, and the mean squared error with z drawn from q, at variance t. */
function solve(values, t, latents) {
  let above = 0, rate = 0, error = 0;
  values.forEach((value, i) => {
    if (value > t) above++;
    if (i < latents && value > t) rate += 0.5 * Math.log(value / t);
    error += i < latents ? Math.min(value, t) : value;
  });
  return { above, active: Math.min(above, latents), rate, error };
}

/** x̂ = mean + Σ u_i (1 - t/λ_i) u_iᵀ(x - mean) over the latents in use. */
function linear({ mean, values, vectors, digits }) {
  const kept = vectors.shape[1], count = digits.shape[0];
  const originals = Array.from({ length: count }, (_, n) =>
    Float32Array.from(digits.subarray(n * PIXELS, (n + 1) * PIXELS), (v) => v / 255));
  const scores = originals.map((x) => {
    const found = new Float64Array(kept);
    for (let p = 0; p < PIXELS; p++) {
      const v = x[p] - mean[p];
      if (v) for (let i = 0; i < kept; i++) found[i] += v * vectors[p * kept + i];
    }
    return found;
  });
  const reconstruct = (t, active) => {
    const used = Math.min(active, kept);
    return scores.map((score) => {
      const code = score.map((v, i) => (i < used ? v * (1 - t / values[i]) : 0));
      return Float32Array.from(mean, (x, p) => {
        for (let i = 0; i < used; i++) x += code[i] * vectors[p * kept + i];
        return x;
      });
    });
  };
  return { originals, reconstruct, kept };
}

/* ---- pictures ---------------------------------------------------------------------- */

/** Bars of eigenvalues; on a logarithmic axis what is above the line is twice the KL. */
function drawScree(canvas, inks, values, s, { variance, active }) {
  const { pen, w, h } = begin(canvas);
  const count = clamp(s.latents, 60, 128), box = { left: 38, right: w - 6, top: 8, bottom: h - 40 };
  const low = Math.log10(Math.min(0.04, 0.7 * values[count - 1], variance / 3));
  const high = Math.log10(Math.max(10, variance * 4));
  const Y = (v) => box.bottom - (Math.log10(v) - low) / (high - low) * (box.bottom - box.top);
  const pitch = (box.right - box.left) / count, X = (i) => box.left + i * pitch;
  pen.strokeStyle = inks.line;
  pen.fillStyle = inks.muted;
  pen.lineWidth = 1;
  for (let p = Math.ceil(low); p <= high; p++) {
    const raised = [...String(Math.abs(p))].map((d) => RAISED[d]).join("");
    const text = Math.abs(p) < 4 ? String(10 ** p) : `10${p < 0 ? "⁻" : ""}${raised}`;
    write(pen, text, box.left - 6, Y(10 ** p) + 4, { align: "right", size: 11 });
    pen.beginPath();
    pen.moveTo(box.left, Y(10 ** p));
    pen.lineTo(box.right, Y(10 ** p));
    pen.stroke();
  }
  const line = Y(variance), bar = Math.max(pitch - 1.5, 1);
  for (let i = 0; i < count; i++) {
    const top = Y(values[i]), edge = Math.max(top, line);
    pen.fillStyle = inks.muted;
    pen.globalAlpha = values[i] > variance ? 0.18 : 0.4;
    pen.fillRect(X(i), edge, bar, Math.max(box.bottom - edge, 0));
    pen.fillStyle = inks.data;
    pen.globalAlpha = i < active ? 1 : 0.3;
    if (top < line) pen.fillRect(X(i), top, bar, line - top);
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = inks.decoder;
  pen.lineWidth = 2.5;
  pen.beginPath();
  pen.moveTo(box.left, line);
  pen.lineTo(box.right, line);
  pen.stroke();
  pen.fillStyle = inks.decoder;
  const style = { align: "right", size: 14, weight: 700, halo: inks.soft };
  write(pen, `σ² = ${short(variance)}`, box.right - 4, line - 8, style);
  drawCount(pen, inks, box, X, count, s.latents);
}

/** The axis of indices, and up to where there are latents. */
function drawCount(pen, inks, { left, right, bottom }, X, count, latents) {
  pen.fillStyle = inks.muted;
  for (const i of [1, 20, 40, 60, 80, 100, 120].filter((v) => v <= count)) {
    write(pen, String(i), X(i - 0.5), bottom + 14, { align: "center", size: 11 });
  }
  const end = X(Math.min(latents, count));
  pen.strokeStyle = inks.ink;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(left, bottom + 19);
  pen.lineTo(left, bottom + 23);
  pen.lineTo(end, bottom + 23);
  if (latents <= count) pen.lineTo(end, bottom + 19);
  pen.stroke();
  pen.fillStyle = inks.ink;
  const text = `d = ${short(latents)}`, beside = end + 70 < right;
  const at = beside ? end + 6 : right;
  write(pen, text, at, bottom + (beside ? 28 : 35), { align: beside ? "left" : "right", size: 12 });
}

/** Each digit beside its reconstruction, or above it where there is more width. */
function drawPairs(canvas, paint, originals, guesses) {
  const { pen, w, h } = begin(canvas), count = originals.length, wide = w > h;
  const size = wide ? Math.min(w / count, h / 2) : Math.min(w / 2, h / count);
  const show = (x, along, across) => {
    const [left, top] = wide ? [along, across] : [across, along];
    paint(pen, x.map((v) => clamp(v, 0, 1)), left * size + 1.5, top * size + 1.5, size - 3);
  };
  originals.forEach((x, k) => {
    show(x, k, 0);
    show(guesses[k], k, 1);
  });
}

/* ---- words ------------------------------------------------------------------------- */

function verdict({ variance, above, active }, latents, largest) {
  const line = `σ² = ${short(variance)}`;
  if (!active) {
    return `Collapses: ${line} is above every eigenvalue, the largest of which is `
      + `${fixed(largest)}. No latent is worth its KL, and every digit is reconstructed `
      + "as the average one.";
  }
  const inUse = `${short(active)} of ${short(latents)} latents in use: `;
  if (active < latents) {
    const off = latents - active;
    return `${inUse}${short(above)} eigenvalue${above > 1 ? "s are" : " is"} above ${line}. The `
      + `other ${off > 1 ? `${short(off)} latents are` : "latent is"} switched off.`;
  }
  const more = above - latents;
  return `${inUse}${line} leaves ${short(above)} eigenvalue${above > 1 ? "s" : ""} above it`
    + (more ? `, so ${short(more)} more latent${more > 1 ? "s" : ""} would be used too.` : ".");
}

/* ---- the explorer ------------------------------------------------------------------ */

function fillPresets(select, presets) {
  const groups = [...new Set(presets.map(({ group }) => group))];
  for (const label of groups) {
    const group = select.appendChild(Object.assign(document.createElement("optgroup"), { label }));
    presets.forEach((preset, k) => {
      if (preset.group === label) group.append(new Option(preset.name, k));
    });
  }
  select.prepend(new Option(OWN, OWN));
}

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "loss_scale", label: "Loss-scale explorer", markup: MARKUP,
  });
  const presets = model.get("presets"), names = Object.keys(presets[0].loss);
  const values = Array.from(arrays.values), total = values.reduce((sum, v) => sum + v, 0);
  const vae = linear(arrays);
  let chosen = OWN;
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, names, () => {
    recognise();
    redraw();
  });
  fillPresets(inputs.preset, presets);

  const numbers = () => {
    const scale = scaleOf(s);
    return { ...scale, ...solve(values, scale.variance, s.latents) };
  };
  const isNow = ({ loss }) => names.every((name) => loss[name] === s[name]);
  const recognise = () => {
    if (chosen !== OWN && isNow(presets[chosen])) return;
    const k = presets.findIndex(isNow);
    chosen = k < 0 ? OWN : k;
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const fill = (name) => {
    const input = inputs[name], typing = input.type === "number" && input.matches(":focus");
    if (!typing || Number(input.value) !== s[name]) input.value = s[name];
    input.removeAttribute("aria-invalid");
  };
  const report = (now) => {
    names.filter((name) => name !== "half").forEach(fill);
    inputs.half.checked = s.half;
    inputs.preset.value = chosen;
    inputs.dial.value = Math.log10(s.kl_weight);
    inputs.dial.setAttribute("aria-valuetext", short(s.kl_weight));
    const own = "Your own choice of weights, sums and means.";
    const says = {
      about: chosen === OWN ? own : presets[chosen].about,
      a: now.a.text, b: now.b.text, dial: short(s.kl_weight),
      variance: short(now.variance), scale: short(Math.sqrt(now.variance)),
      active: short(now.active), d: short(s.latents), rate: fixed(now.rate, 1),
      error: fixed(now.error, 1), total: fixed(total, 1),
      beta: `The same line: β = ${short(2 * now.variance)} on SSE + KL, or `
        + `β = ${short(now.variance)} on ½ SSE + KL; only β σ² counts.`,
      whose: s.pixels === PIXELS ? "28 × 28 pixels"
        : `images of ${short(s.pixels)} pixels have others`,
    };
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    speak(verdict(now, s.latents, values[0]));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "data", "decoder", "soft"], () => redraw());
  const paint = painter(inks);
  const draw = () => {
    const now = numbers();
    report(now);
    drawScree(canvases.scree, inks, values, s, now);
    drawPairs(canvases.pairs, paint, vae.originals, vae.reconstruct(now.variance, now.active));
  };
  const redraw = perFrame(draw);

  /* controls */
  const enter = (name, whole) => {
    const value = Number(inputs[name].value);
    const fits = value > 0 && value < 1e12 && (!whole || Number.isInteger(value));
    if (fits) change({ [name]: value });
    else inputs[name].setAttribute("aria-invalid", "true");
  };
  for (const name of [...WEIGHTS, ...SIZES]) {
    on(inputs[name], "input", () => enter(name, SIZES.includes(name)));
    on(inputs[name], "blur", () => fill(name));
  }
  for (const name of Object.values(TERMS).flat()) {
    on(inputs[name], "change", () => change({ [name]: inputs[name].value }));
  }
  on(inputs.half, "change", () => change({ half: inputs.half.checked }));
  on(inputs.dial, "input", () =>
    change({ kl_weight: Number((10 ** +inputs.dial.value).toPrecision(3)) }));
  on(inputs.preset, "change", () => {
    const { value } = inputs.preset;
    chosen = value === OWN ? OWN : Number(value);
    change(chosen === OWN ? {} : presets[chosen].loss);
  });
  on(buttons.reset, "click", () => {
    chosen = OWN;
    reset();
  });
  on(root, "change", tell);

  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = "Exact for a linear VAE, which is probabilistic PCA with σ² held "
    + `at this value, on ${facts.examples.toLocaleString("en")} training digits: latent i is used `
    + "where λᵢ > σ² and costs ½ log(λᵢ/σ²) nats. For deep VAEs it is a prediction. Squared error: "
    + "mean over those digits, z drawn from q. Pictures: test digits, decoded at the mean of q"
    + `${vae.kept < values.length ? `, from at most ${vae.kept} latents` : ""}.`;
  recognise();
  read();
  draw();
  root.explorer = { change, draw, numbers, reconstruct: vae.reconstruct, state: () => s };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
