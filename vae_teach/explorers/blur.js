// The blur explorer: one squared error at every variance of the decoder, and the data that
// share a code. A plane of a few digits, all carried here, and a model of many, precomputed.

import { PIXELS, SIDE, painter } from "./digits.js";
import {
  arrows, begin, build, clamp, drag, ellipse, fixed, listen, on, perFrame, slider, speaker,
  theme, unpack, write,
} from "./shared.js";
import { vae } from "./vae.js";

const SHOWN = 8; // of the digits that share a point
const HALF = SIDE / 2;

const caption = (part, text, more) =>
  `<figcaption><span class="vx-of-${part}">${text}</span> <small>${more}</small></figcaption>`;
const readOuts = (world) => `<dl class="vx-readouts">
  <div><dt>Rate, the KL</dt><dd><b data-out="${world}-rate"></b> nats</dd></div>
  <div><dt>Digits sharing a code</dt>
    <dd><b data-out="${world}-sharing"></b> of <span data-out="${world}-of"></span></dd></div>
  <div><dt>Squared error</dt>
    <dd><b data-out="${world}-error"></b> of <span data-out="${world}-spread"></span></dd></div>
  <div><dt>Sharpness</dt><dd><b data-out="${world}-sharpness"></b> of the data’s</dd></div>
</dl>`;

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-dial">
  ${slider("at", "σ² of the decoder", { min: 0, max: 1, step: 1 })}
  <div class="vx-ticks" aria-hidden="true"></div>
</div>
<p class="vx-world" data-out="few"></p>
${readOuts("plane")}
<div class="vx-columns">
  <div class="vx-left">
    <canvas class="vx-map" data-canvas="plane" tabindex="0" role="application"
      aria-label="The latent plane: an ellipse for the posterior of each digit. Arrow keys move
        the point z; so do the two sliders below."></canvas>
    <div class="vx-pair">
      ${slider("z0", "z₁", { min: -4, max: 4, step: 0.01 })}
      ${slider("z1", "z₂", { min: -4, max: 4, step: 0.01 })}
    </div>
  </div>
  <div class="vx-right">
    <div class="vx-pair">
      <figure>${caption("data", "Average", "of digits at z")}
        <canvas class="vx-digit" data-canvas="average" role="img"
          aria-label="The average of the digits, each weighed by its posterior at z"></canvas>
      </figure>
      <figure>${caption("decoder", "Decoder", "at z")}
        <canvas class="vx-digit" data-canvas="decoded" role="img"
          aria-label="What the decoder makes of z"></canvas>
      </figure>
    </div>
    <p class="vx-one" data-out="apart"></p>
    <figure>${caption("data", "In the average", "and the weight of each")}
      <canvas class="vx-sharers" data-canvas="sharers" role="img"
        aria-label="The digits of greatest weight; the note says how many count"></canvas>
    </figure>
    <label class="vx-row">z at the code of a <select data-in="digit"></select></label>
  </div>
</div>
<p class="vx-world vx-real" data-out="many"></p>
${readOuts("real")}
<div class="vx-spectrum">
  <figure><figcaption>Power <small>by frequency, in cycles per pixel</small></figcaption>
    <canvas class="vx-power" data-canvas="power" role="img"
      aria-label="Power against frequency, of the data and of reconstructions, which lack the
        high frequencies when σ² is large; the sharpness says the same"></canvas>
  </figure>
  <figure><figcaption><span class="vx-of-data">x</span> and
      <span class="vx-of-decoder">its reconstruction</span></figcaption>
    <canvas class="vx-pairs" data-canvas="pairs" role="img"
      aria-label="Test digits, and the reconstruction of each"></canvas>
  </figure>
</div>
<div class="vx-foot">
  <p class="vx-note" aria-live="polite"></p>
  <button type="button" data-do="reset">Reset</button>
</div>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- the average of the data ------------------------------------------------------- */

/** The digits, two pixels a byte, as numbers in [0, 1]. */
function grays(packed) {
  const [count, bytes] = packed.shape;
  return Array.from({ length: count }, (_, i) => Float32Array.from({ length: PIXELS }, (_, p) => {
    const byte = packed[i * bytes + (p >> 1)];
    return (p % 2 ? byte & 15 : byte >> 4) / 15;
  }));
}

/** Means of 2 x 2 pixels: what the encoder sees. */
function pooled(x) {
  return Float32Array.from({ length: HALF * HALF }, (_, k) => {
    const p = 2 * SIDE * Math.floor(k / HALF) + 2 * (k % HALF);
    return (x[p] + x[p + 1] + x[p + SIDE] + x[p + SIDE + 1]) / 4;
  });
}

/** w_i = q(z|x_i) / Σ_j q(z|x_j): how likely it was digit i that sent z. */
function weigh(codes, z) {
  const logs = codes.map(({ mean, sd }) => z.reduce((sum, v, k) =>
    sum - ((v - mean[k]) / sd[k]) ** 2 / 2 - Math.log(sd[k]), 0));
  const top = Math.max(...logs), weights = logs.map((log) => Math.exp(log - top));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / total);
}

/** Σ w_i x_i. */
function averaged(digits, weights) {
  const mean = new Float32Array(PIXELS);
  weights.forEach((w, i) => {
    if (w > 1e-7) for (let p = 0; p < PIXELS; p++) mean[p] += w * digits[i][p];
  });
  return mean;
}

/** exp of the entropy: n for n equal weights. */
const effective = (weights) =>
  Math.exp(-weights.reduce((sum, w) => sum + (w > 0 ? w * Math.log(w) : 0), 0));

/* ---- pictures ---------------------------------------------------------------------- */

function drawPrior({ pen, w }, inks, place) {
  pen.strokeStyle = inks.line;
  pen.lineWidth = 1.25;
  for (const r of [1, 2, 3]) {
    ellipse(pen, w / 2, w / 2, r * place.unit);
    pen.stroke();
  }
}

/** Every posterior at 1 sd; those that share z stand out, as far as they do. */
function drawCodes({ pen }, inks, place, codes, weights) {
  const at = ({ mean, sd }) => ellipse(
    pen, place.x(mean[0]), place.y(mean[1]),
    Math.max(sd[0] * place.unit, 1.5), Math.max(sd[1] * place.unit, 1.5),
  );
  const area = codes.reduce((sum, { sd }) => sum + sd[0] * sd[1], 0) * place.unit ** 2;
  pen.fillStyle = pen.strokeStyle = inks.encoder;
  const fill = clamp(1e4 / area, 0.02, 0.4); // wide clouds overlap: paint thinner
  pen.lineWidth = 1;
  for (const code of codes) {
    at(code);
    pen.globalAlpha = fill;
    pen.fill();
    pen.globalAlpha = Math.max(fill, 0.16);
    pen.stroke();
  }
  pen.strokeStyle = inks.data;
  pen.lineWidth = 2;
  codes.forEach((code, i) => {
    if (weights[i] < 0.005) return;
    pen.globalAlpha = clamp(10 * weights[i], 0, 1);
    at(code);
    pen.stroke();
  });
  pen.globalAlpha = 1;
}

function drawPoint({ pen, w }, inks, place, z) {
  for (const [stroke, width] of [[inks.paper, 7], [inks.latent, 3.5]]) {
    ellipse(pen, place.x(z[0]), place.y(z[1]), 9);
    pen.strokeStyle = stroke;
    pen.lineWidth = width;
    pen.stroke();
  }
  pen.fillStyle = inks.muted;
  write(pen, "z₁", w - 20, w / 2 + 4, { halo: inks.soft });
  write(pen, "z₂", w / 2 - 6, 16, { halo: inks.soft });
  write(pen, "circles: the prior at 1, 2, 3 sd", 8, w - 9, { size: 11, halo: inks.soft });
}

/** The digits of greatest weight, and the weights in percent. */
function drawSharers(canvas, inks, paint, digits, weights) {
  const { pen, w } = begin(canvas), pitch = w / SHOWN;
  const first = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, SHOWN);
  first.forEach((i, k) => {
    const share = 100 * weights[i];
    if (share < 0.05) return;
    paint(pen, digits[i], k * pitch + 1, 0, pitch - 2);
    pen.fillStyle = inks.data;
    pen.fillRect(k * pitch + 1, pitch, (pitch - 2) * weights[i], 3);
    pen.fillStyle = inks.muted;
    const text = `${fixed(share, share < 9.95 ? 1 : 0)}%`;
    write(pen, text, (k + 0.5) * pitch, pitch + 17, { align: "center", size: 11 });
  });
}

/** Each digit above its reconstruction. */
function drawPairs(canvas, paint, originals, guesses) {
  const { pen, w } = begin(canvas), size = w / originals.length;
  originals.forEach((x, k) => {
    paint(pen, x, k * size + 1.5, 1.5, size - 3);
    paint(pen, guesses[k], k * size + 1.5, size + 1.5, size - 3);
  });
}

/** Power on a logarithmic scale; beyond the cutoff it is fine detail. */
function drawPower(canvas, inks, { frequency, cutoff }, curves) {
  const { pen, w, h } = begin(canvas);
  const box = { left: 36, right: w - 8, top: 8, bottom: h - 22 }, [low, high] = [-4, 1];
  const X = (f) => box.left + (f / 0.5) * (box.right - box.left);
  const Y = (v) => box.bottom
    - (Math.max(Math.log10(v), low) - low) / (high - low) * (box.bottom - box.top);
  pen.fillStyle = inks.line;
  pen.globalAlpha = 0.45;
  pen.fillRect(X(cutoff), box.top, box.right - X(cutoff), box.bottom - box.top);
  pen.globalAlpha = 1;
  pen.strokeStyle = inks.line;
  pen.fillStyle = inks.muted;
  pen.lineWidth = 1;
  for (let p = low; p <= high; p++) {
    const text = ["0.0001", "0.001", "0.01", "0.1", "1", "10"][p - low];
    if (p > low) write(pen, text, box.left - 5, Y(10 ** p) + 4, { align: "right", size: 11 });
    pen.beginPath();
    pen.moveTo(box.left, Y(10 ** p));
    pen.lineTo(box.right, Y(10 ** p));
    pen.stroke();
  }
  for (const f of [0, 0.1, 0.2, 0.3, 0.4, 0.5]) {
    write(pen, fixed(f, 1), X(f), h - 6, { align: "center", size: 11 });
  }
  write(pen, "fine detail →", X(cutoff) + 6, box.top + 13, { size: 11 });
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
  for (const [ink, width, values] of curves) {
    pen.strokeStyle = ink;
    pen.lineWidth = width;
    pen.beginPath();
    for (let k = 1; k < values.length; k++) pen.lineTo(X(frequency[k]), Y(values[k]));
    pen.stroke();
  }
  pen.restore();
}

/* ---- words ------------------------------------------------------------------------- */

const whole = (n) => n.toLocaleString("en");

/** How many digits: to a tenth where there are few. */
const count = (n) => (n < 9.95 ? fixed(n, 1) : whole(Math.round(n)));

/** A variance with two digits that count. */
const short = (v) => String(Number(v.toPrecision(2)));

function sentence(variance, plane, real, here, facts) {
  const line = `At σ² = ${short(variance)} `;
  const share = `${line}the code of a digit is shared by about ${count(plane.sharing)} of `
    + `${whole(facts.few)} in the plane`;
  const rest = `, and with ${facts.latents} latents by ${count(real.sharing)} of `
    + `${whole(facts.many)}, at ${fixed(100 * real.sharpness, 0)}% of the data’s sharpness. `;
  return `${share}${rest}The image at z is an average of ${count(here)}.`;
}

function evidence({ few, many, cutoff, plane, rounding }) {
  const apart = Math.max(...plane.filter(({ sharing }) => sharing > 2).map((row) => row.apart));
  return "Each VAE is one model for every σ², trained on ½ squared error + σ² KL: only β σ² "
    + `counts. The first is measured on the ${whole(few)} digits that it was trained on, all `
    + `carried here. The second saw ${whole(many)} and is measured on 2,000 others; where one of `
    + "those has a code alone, digits never seen may share it, and its networks have limits. "
    + "Digits sharing a code: e to the entropy of wᵢ ∝ q(z|xᵢ), over training digits, z "
    + `drawn from q. Where 2 or more do, decoder and average are ${fixed(apart, 1)} apart at most, `
    + `in the mean. Sharpness: the share of power above ${cutoff} cycles per pixel. Rounding costs `
    + `${fixed(rounding.rate)} nats and ${fixed(rounding.error)} of squared error at most.`;
}

/* ---- the explorer ------------------------------------------------------------------ */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "blur", label: "Blur explorer", markup: MARKUP,
  });
  const net = vae(arrays, facts.knots), { variances, plane, real } = facts;
  const last = variances.length - 1, rings = arrays.power.shape[1];
  const digits = grays(arrays.digits), started = digits.map((x) => net.start(pooled(x)));
  const bytes = (name, from, many) => Array.from({ length: many }, (_, k) =>
    Float32Array.from(arrays[name].subarray((from + k) * PIXELS, (from + k + 1) * PIXELS),
      (v) => v / 255));
  const tests = bytes("tests", 0, arrays.tests.shape[0]);
  const guesses = variances.map((_, k) => bytes("guesses", k * tests.length, tests.length));
  const nearest = (variance) => {
    const far = variances.map((v) => Math.abs(Math.log(v / variance)));
    return far.indexOf(Math.min(...far));
  };

  const first = [...Array(10).keys()].map((label) => arrays.labels.indexOf(label));
  let s, codes, extent;
  const fresh = () => ({ at: nearest(model.get("variance")), digit: first[7], z: [0, 0] });

  /** All that depends on σ²: weights of the networks, codes, how far the plane reaches. */
  const tune = () => {
    net.tune(s.at / last);
    codes = started.map(net.finish);
    const reach = codes.map(({ mean }) => Math.max(...mean.map(Math.abs))).sort((a, b) => a - b);
    extent = Math.ceil(Math.max(33, 10.8 * reach[Math.floor(0.99 * reach.length)])) / 10;
    for (const name of ["z0", "z1"]) {
      inputs[name].min = -extent;
      inputs[name].max = extent;
    }
    if (s.digit !== null) s.z = [...codes[s.digit].mean];
    s.z = s.z.map((v) => clamp(v, -extent, extent));
  };
  const choose = (digit) => {
    s.digit = digit;
    s.z = [...codes[digit].mean];
  };
  const move = (z) => {
    s.z = z.map((v) => clamp(v, -extent, extent));
    s.digit = null;
  };
  /** The average of the data at z, and the decoder's image of z. */
  const look = (z) => {
    const weights = weigh(codes, z), average = averaged(digits, weights), decoded = net.decode(z);
    const apart = average.reduce((sum, v, p) => sum + (v - decoded[p]) ** 2, 0);
    return { weights, average, decoded, apart };
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const report = (now) => {
    const variance = variances[s.at], here = effective(now.weights);
    inputs.at.value = s.at;
    inputs.at.setAttribute("aria-valuetext", `sigma squared ${short(variance)}`);
    outputs.at.value = `σ² = ${short(variance)}`;
    for (const [world, row] of [["plane", plane[s.at]], ["real", real[s.at]]]) {
      outputs[`${world}-rate`].textContent = fixed(row.rate, 1);
      outputs[`${world}-sharing`].textContent = count(row.sharing);
      outputs[`${world}-error`].textContent = fixed(row.error, 1);
      outputs[`${world}-sharpness`].textContent = `${fixed(100 * row.sharpness, 0)}%`;
    }
    s.z.forEach((v, k) => {
      inputs[`z${k}`].value = v;
      outputs[`z${k}`].value = fixed(v);
    });
    inputs.digit.value = s.digit ?? "";
    const share = here < 1.05 ? "One digit has" : `As if ${count(here)} digits shared`;
    outputs.apart.textContent = `${share} this z. The two images are ${fixed(now.apart, 1)} apart, `
      + `a sum of squares; two digits, ${fixed(2 * facts.spread.plane, 0)}.`;
    speak(sentence(variance, plane[s.at], real[s.at], here, facts));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "paper", "soft", "encoder", "latent", "decoder", "data"],
    () => redraw());
  const paint = painter(inks);
  const drawDigit = (canvas, x) => {
    const { pen, w } = begin(canvas);
    paint(pen, x, 0, 0, w);
  };
  const draw = () => {
    const now = look(s.z);
    report(now);
    const sheet = begin(canvases.plane), { w } = sheet, unit = w / 2 / extent;
    const place = { unit, x: (z) => w / 2 + z * unit, y: (z) => w / 2 - z * unit };
    drawPrior(sheet, inks, place);
    drawCodes(sheet, inks, place, codes, now.weights);
    drawPoint(sheet, inks, place, s.z);
    drawDigit(canvases.average, now.average);
    drawDigit(canvases.decoded, now.decoded);
    drawSharers(canvases.sharers, inks, paint, digits, now.weights);
    drawPairs(canvases.pairs, paint, tests, guesses[s.at]);
    drawPower(canvases.power, inks, facts, [
      [inks.data, 4, arrays.data],
      [inks.decoder, 2.5, arrays.power.subarray(s.at * rings, (s.at + 1) * rings)],
    ]);
  };
  const redraw = perFrame(draw);

  /* controls */
  const tell = () => {
    model.set("variance", variances[s.at]);
    model.set("z", s.digit === null ? [...s.z] : null);
    model.save_changes();
  };
  const react = (node, type, act) => on(node, type, (event) => {
    act(event);
    redraw();
  });
  const retune = (at) => {
    s.at = at;
    tune();
  };
  react(inputs.at, "input", () => retune(+inputs.at.value));
  for (const k of [0, 1]) {
    const input = inputs[`z${k}`];
    react(input, "input", () => move(s.z.map((v, j) => (j === k ? +input.value : v))));
  }
  react(inputs.digit, "change", () => {
    if (inputs.digit.value !== "") choose(+inputs.digit.value);
  });
  const dragTo = ([x, y]) => {
    move([(2 * x - 1) * extent, (1 - 2 * y) * extent]);
    redraw();
  };
  drag(canvases.plane, { down: dragTo, move: dragTo, up: tell });
  arrows(canvases.plane, (step) => {
    move(s.z.map((v, k) => v + 0.02 * extent * step[k]));
    redraw();
    tell();
  });
  on(root, "change", tell);
  const initial = model.get("variance");
  react(buttons.reset, "click", () => {
    model.set("variance", initial);
    s = fresh();
    tune();
    tell();
  });
  const unlisten = listen(model, ["variance"], () => variances[s.at], ({ variance }) => {
    retune(nearest(variance));
    redraw();
  });
  const unlistenZ = listen(model, ["z"], () => (s.digit === null ? s.z : null), ({ z }) => {
    if (z) move(z);
    redraw();
  });

  /* begin */
  inputs.at.max = last;
  inputs.digit.innerHTML = `<option value="">point of your own</option>${first.map((i, label) =>
    `<option value="${i}">digit ${label}</option>`).join("")}`;
  const ticks = root.querySelector(".vx-ticks");
  for (const v of facts.ticks) {
    const next = clamp(variances.findIndex((w) => w >= v), 1, last);
    const [low, high] = [variances[next - 1], variances[next]];
    const at = (next - 1 + Math.log(v / low) / Math.log(high / low)) / last;
    ticks.insertAdjacentHTML("beforeend", `<span style="left:${100 * at}%">${v}</span>`);
  }
  const says = {
    notice: model.get("notice"),
    few: `${whole(facts.few)} digits, 2 latents`,
    evidence: evidence(facts),
    many: `${whole(facts.many)} digits, ${facts.latents} latents`,
    "plane-of": whole(facts.few), "real-of": whole(facts.many),
    "plane-spread": fixed(facts.spread.plane, 1), "real-spread": fixed(facts.spread.real, 1),
  };
  for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
  s = fresh();
  tune();
  const z = model.get("z");
  if (z) move(z);
  read();
  draw();
  root.explorer = { retune, move, draw, look, decode: net.decode, codes: () => codes };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
    unlistenZ();
  };
}

export default { render };
