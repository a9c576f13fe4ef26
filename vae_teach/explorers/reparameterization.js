// The reparameterization explorer: one gradient, two estimators, the same draws.

import {
  begin, build, clamp, drag, ellipse, fixed, listen, on, perFrame, slider, speaker, theme,
  uniforms, write,
} from "./shared.js";

const STOPS = [1, 2, 5, 10, 20, 50, 100]; // of the slider of D
const WIDEST = STOPS.at(-1);
const REACH = 5; // the picture shows z and epsilon from -5 to 5
const CEILING = 12; // and f up to 16
const SHOWN = 12; // draws in the picture
const BINS = 61; // odd: zero lies in the middle of one
const LIMITS = { mu: [-2, 2], sigma: [0.25, 1.5], dimension: [1, WIDEST], samples: [2, 20000] };

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <label><input type="checkbox" data-in="baseline"> subtract the baseline E f(z) from f(z)</label>
  <div class="vx-row">
    <button type="button" data-do="resample">Resample</button>
    <button type="button" data-do="reset">Reset</button>
  </div>
</div>
<div class="vx-columns">
  <figure class="vx-left"><figcaption>z = μ + σ ε <small>the first of D dimensions</small>
    </figcaption>
    <canvas class="vx-mechanism" data-canvas="mechanism" role="img"
      aria-label="The draws of epsilon on a line, each joined to its z under the density of
        z and the curve f. The sliders of μ and σ move z; epsilon stays."></canvas>
    <p class="vx-key" aria-hidden="true">
      <span class="vx-key-density">density of z</span>
      <span class="vx-key-f">f = z²</span>
      <span class="vx-key-slope">slope, 2z</span>
    </p>
  </figure>
  <div class="vx-right">
    <figure><figcaption class="vx-pathwise">Pathwise
      <span>mean <b data-out="pathwiseMean"></b></span></figcaption>
      <canvas class="vx-histogram" data-canvas="pathwise" role="img"
        aria-label="Histogram of the pathwise estimates, 2 z₁; the read-outs say the same">
      </canvas>
    </figure>
    <figure><figcaption class="vx-score">Score function
      <span>mean <b data-out="scoreMean"></b></span></figcaption>
      <canvas class="vx-histogram vx-with-axis" data-canvas="score" role="img"
        aria-label="Histogram of the score-function estimates, f(z)(z₁ − μ)/σ², on the same
          axis; the read-outs say the same"></canvas>
    </figure>
  </div>
</div>
<div class="vx-triple">
  ${slider("mu", "mean μ", { min: LIMITS.mu[0], max: LIMITS.mu[1], step: 0.01 })}
  ${slider("sigma", "scale σ", { min: LIMITS.sigma[0], max: LIMITS.sigma[1], step: 0.01 })}
  ${slider("stop", "dimensions D", { min: 0, max: STOPS.length - 1, step: 1 })}
</div>
<dl class="vx-readouts">
  <div><dt>True gradient, 2μ</dt><dd><b data-out="gradient"></b></dd>
    <dd>of E f(z), in μ₁</dd></div>
  <div class="vx-pathwise"><dt>Variance, pathwise</dt><dd><b data-out="pathwise"></b> exact</dd>
    <dd><span data-out="pathwiseDrawn"></span> drawn</dd></div>
  <div class="vx-score"><dt>Variance, score</dt><dd><b data-out="score"></b> exact</dd>
    <dd><span data-out="scoreDrawn"></span> drawn</dd></div>
  <div><dt>Their ratio</dt><dd><b data-out="ratio"></b> exact</dd>
    <dd><span data-out="ratioDrawn"></span> drawn</dd></div>
</dl>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<p class="vx-evidence">f(z) = z₁² + … + z<sub>D</sub>². Exact: in closed form. Drawn: from
  <span data-out="samples"></span> draws, the same for both estimators. ±: one standard error.
  Each histogram has its own height.</p>`;

/* ---- two estimators --------------------------------------------------------------- */

/** Draws of epsilon, WIDEST standard normals each, by Box and Muller. */
function noise(seed, samples) {
  const next = uniforms(seed), all = new Float32Array(samples * WIDEST);
  for (let k = 0; k < all.length; k += 2) {
    const radius = Math.sqrt(-2 * Math.log(next())), turn = 2 * Math.PI * next();
    all[k] = radius * Math.cos(turn);
    all[k + 1] = radius * Math.sin(turn);
  }
  return all;
}

/** All that the estimators need of each draw: ε₁, Σ ε_d and Σ ε_d² over D dimensions. */
function sums(all, dimension) {
  const count = all.length / WIDEST;
  const [first, sum, squares] = [0, 0, 0].map(() => new Float64Array(count));
  for (let i = 0; i < count; i++) {
    first[i] = all[i * WIDEST];
    for (let d = 0; d < dimension; d++) {
      const e = all[i * WIDEST + d];
      sum[i] += e;
      squares[i] += e * e;
    }
  }
  return { first, sum, squares };
}

/** The estimate of each draw. E f = D (μ² + σ²) is the baseline. */
function estimates({ first, sum, squares }, { mu, sigma, dimension, baseline }) {
  const off = baseline ? dimension * (mu * mu + sigma * sigma) : 0;
  const f = (i) =>
    dimension * mu * mu + 2 * mu * sigma * sum[i] + sigma * sigma * squares[i];
  return {
    pathwise: first.map((e) => 2 * (mu + sigma * e)),
    score: first.map((e, i) => (f(i) - off) * e / sigma), // (z - μ)/σ² = ε/σ
  };
}

/** The variance of one estimate of each kind: reparameterization.py has the formulas. */
function variances({ mu, sigma, dimension, baseline }) {
  const a = mu * mu, v = sigma * sigma, others = dimension - 1;
  const m = others * (a + v), V = others * (4 * a * v + 2 * v * v);
  const plain = a * a / v + 14 * a + 15 * v + (2 * m * (a + 3 * v) + m * m + V) / v;
  return { pathwise: 4 * v, score: baseline ? 8 * a + 10 * v + V / v : plain };
}

/** Mean and variance of a sample. */
function moments(values) {
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return { mean, variance: squares / (values.length - 1) };
}

/** Counts in BINS bins from -reach to reach, and how many values lie outside. */
function histogram(values, reach) {
  const counts = new Uint32Array(BINS);
  let outside = 0;
  for (const v of values) {
    const bin = Math.floor((v / reach + 1) / 2 * BINS);
    if (bin < 0 || bin >= BINS) outside++;
    else counts[bin]++;
  }
  return { counts, outside };
}

/* ---- numbers for people ----------------------------------------------------------- */

/** Three digits or more: 0.25, 7.50, 42.0, 138, 10,353. */
function amount(x) {
  const digits = x < 9.995 ? 2 : x < 99.95 ? 1 : 0;
  return x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** The round number at x or next above it, so that a drag rarely moves the axis. */
function roundUp(x) {
  const unit = 10 ** Math.floor(Math.log10(x));
  return unit * [1, 1.5, 2, 3, 5, 7, 10].find((k) => k * unit >= x * (1 - 1e-9));
}

/* ---- pictures --------------------------------------------------------------------- */

function line(pen, ...points) {
  pen.beginPath();
  for (const [x, y] of points) pen.lineTo(x, y);
  pen.stroke();
}

function dot(pen, x, y, radius, fill, edge) {
  ellipse(pen, x, y, radius);
  pen.fillStyle = fill;
  pen.fill();
  pen.strokeStyle = edge;
  pen.lineWidth = 1.5;
  pen.stroke();
}

/** An axis from -REACH to REACH, with a tick at each unit. */
function scale({ pen, w }, inks, X, y, numbered) {
  pen.strokeStyle = inks.muted;
  pen.lineWidth = 1;
  line(pen, [0, y], [w, y]);
  for (let k = 1 - REACH; k < REACH; k++) line(pen, [X(k), y], [X(k), y + 4]);
  if (!numbered) return;
  pen.fillStyle = inks.muted;
  for (let k = 1 - REACH; k < REACH; k++) {
    if (k % 2 === 0) write(pen, fixed(k, 0), X(k), y + 17, { align: "center", size: 11 });
  }
}

/** The density of z, its height such that a narrow one still fits. */
function drawDensity({ pen, w }, inks, { mu, sigma }, X, base, height) {
  const tall = height / Math.max(1, 1.3 * sigma);
  const P = (z) => base - tall * Math.exp(-0.5 * ((z - mu) / sigma) ** 2);
  pen.beginPath();
  for (let p = 0; p <= w; p++) pen.lineTo(p, P((2 * p / w - 1) * REACH));
  pen.strokeStyle = inks.latent;
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.lineTo(w, base);
  pen.lineTo(0, base);
  pen.fillStyle = inks.latent;
  pen.globalAlpha = 0.16;
  pen.fill();
  pen.globalAlpha = 1;
  dot(pen, X(mu), base - tall, 6, inks.paper, inks.latent); // to hold it by
}

/** The curve f: its height at each z, its slope at two. */
function drawCurve({ pen, w }, inks, zs, X, base, height) {
  const unit = height / CEILING, F = (z) => base - unit * z * z;
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, w, base + 6);
  pen.clip();
  pen.beginPath();
  for (let p = 0; p <= w; p++) pen.lineTo(p, F((2 * p / w - 1) * REACH));
  pen.strokeStyle = inks.decoder;
  pen.lineWidth = 1.75;
  pen.stroke();
  pen.lineWidth = 4;
  for (const z of [Math.min(...zs), Math.max(...zs)]) { // more would hide each other
    const run = w / 2 / REACH, rise = -2 * z * unit, along = 42 / Math.hypot(run, rise);
    line(pen, ...[-along, along].map((u) => [X(z) + u * run, F(z) + u * rise]));
  }
  for (const z of zs) dot(pen, X(z), F(z), 3.5, inks.decoder, inks.soft);
  pen.restore();
}

/** ε on a line, carried to z under its density and the curve f. */
function drawMechanism(canvas, inks, { mu, sigma }, epsilons) {
  const sheet = begin(canvas), { pen, w, h } = sheet;
  const X = (z) => (z / REACH + 1) * w / 2, zs = [...epsilons].map((e) => mu + sigma * e);
  const low = h - 30, base = Math.round(0.66 * h);
  drawDensity(sheet, inks, { mu, sigma }, X, base, 0.66 * base);
  pen.globalAlpha = 0.55;
  pen.strokeStyle = inks.muted;
  pen.lineWidth = 1;
  zs.forEach((z, i) => line(pen, [X(epsilons[i]), low], [X(z), base]));
  pen.globalAlpha = 1;
  scale(sheet, inks, X, base, false);
  scale(sheet, inks, X, low, true);
  drawCurve(sheet, inks, zs, X, base, base - 14);
  zs.forEach((z, i) => {
    dot(pen, X(epsilons[i]), low, 4, inks.ink, inks.soft);
    dot(pen, X(z), base, 4, inks.ink, inks.soft);
  });
  pen.fillStyle = inks.muted;
  write(pen, "z", w - 8, base - 7, { align: "right", size: 13, halo: inks.soft });
  write(pen, "ε", w - 8, low - 7, { align: "right", size: 13, halo: inks.soft });
}

/** One histogram to its own height, the truth dashed, and `name` above. */
function drawHistogram(canvas, inks, { ink, name, numbered, values, reach, truth }) {
  const { pen, w, h } = begin(canvas), base = numbered ? h - 24 : h - 8, top = 24;
  const { counts, outside } = histogram(values, reach), highest = Math.max(...counts, 1);
  const X = (v) => (v / reach + 1) * w / 2, wide = w / BINS;
  pen.fillStyle = ink;
  counts.forEach((count, k) => {
    const tall = (base - top) * count / highest;
    pen.fillRect(k * wide, base - tall, wide - 0.5, tall);
  });
  pen.strokeStyle = inks.line;
  pen.lineWidth = 1;
  line(pen, [0, base + 0.5], [w, base + 0.5]);
  pen.strokeStyle = inks.ink;
  pen.lineWidth = 1.5;
  pen.setLineDash([4, 3]);
  line(pen, [X(truth), 20], [X(truth), base]);
  pen.setLineDash([]);
  pen.fillStyle = inks.muted;
  write(pen, name, 8, 15);
  if (outside) write(pen, `${outside} outside`, w - 8, 15, { align: "right", size: 11 });
  pen.fillStyle = inks.ink;
  if (!numbered) write(pen, "2μ", X(truth), 15, { align: "center", weight: 600 });
  pen.fillStyle = inks.muted;
  for (const [v, align] of numbered ? [[-1, "left"], [0, "center"], [1, "right"]] : []) {
    const text = `${v < 0 ? "−" : ""}${(Math.abs(v) * reach).toLocaleString("en")}`;
    write(pen, text, clamp(X(v * reach), 8, w - 8), h - 8, { align, size: 11 });
  }
}

/* ---- the explorer ----------------------------------------------------------------- */

function render({ model, el }) {
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "reparameterization", label: "Reparameterization explorer", markup: MARKUP,
  });
  const names = ["mu", "sigma", "dimension", "baseline", "samples", "seed"];
  const within = (name, value) => {
    if (!(name in LIMITS)) return value;
    const inside = clamp(value, ...LIMITS[name]);
    return name === "mu" || name === "sigma" ? inside : Math.round(inside);
  };
  const initial = Object.fromEntries(names.map((name) => [name, within(name, model.get(name))]));
  const s = { ...initial };

  // A drag of μ or σ changes neither the draws nor their sums.
  let drawn = { key: "" }, summed = { key: "" };
  const draws = () => {
    const key = `${s.seed} ${s.samples}`;
    if (key !== drawn.key) drawn = { key, all: noise(s.seed, s.samples) };
    return drawn;
  };
  const parts = () => {
    const { key: from, all } = draws(), key = `${from} ${s.dimension}`;
    if (key !== summed.key) summed = { key, parts: sums(all, s.dimension) };
    return summed.parts;
  };
  const numbers = () => {
    const found = estimates(parts(), s), exact = variances(s);
    const [pathwise, score] = [moments(found.pathwise), moments(found.score)];
    const sd = Math.sqrt(Math.max(exact.pathwise, exact.score));
    const reach = roundUp(2 * Math.abs(s.mu) + 3 * sd);
    return { found, exact, pathwise, score, reach };
  };

  const speak = speaker(root.querySelector(".vx-note"));
  const report = ({ exact, pathwise, score }) => {
    const log = (d) => Math.abs(Math.log(d / s.dimension));
    const stop = STOPS.reduce((best, d, k) => (log(d) < log(STOPS[best]) ? k : best), 0);
    Object.assign(inputs.mu, { value: s.mu });
    Object.assign(inputs.sigma, { value: s.sigma });
    Object.assign(inputs.stop, { value: stop });
    inputs.stop.setAttribute("aria-valuetext", `${s.dimension}`);
    inputs.baseline.checked = s.baseline;
    outputs.mu.value = fixed(s.mu);
    outputs.sigma.value = fixed(s.sigma);
    outputs.stop.value = s.dimension;
    outputs.gradient.textContent = fixed(2 * s.mu);
    const ratio = exact.score / exact.pathwise;
    const shown = {
      pathwise: exact.pathwise, score: exact.score, ratio,
      pathwiseDrawn: pathwise.variance, scoreDrawn: score.variance,
      ratioDrawn: score.variance / pathwise.variance,
    };
    for (const [name, value] of Object.entries(shown)) outputs[name].textContent = amount(value);
    for (const [name, { mean, variance }] of Object.entries({ pathwise, score })) {
      const error = Math.sqrt(variance / s.samples);
      outputs[`${name}Mean`].textContent = `${fixed(mean)} ± ${amount(error)}`;
    }
    speak(`With D = ${s.dimension}${s.baseline ? " and the baseline" : ""} it takes `
      + `${amount(ratio)} score-function samples, averaged, to come as close to `
      + `${fixed(2 * s.mu)} as one pathwise sample.`);
  };
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "encoder", "latent", "decoder", "paper", "soft"], () => redraw());
  const draw = () => {
    const now = numbers(), shown = parts().first.subarray(0, SHOWN);
    report(now);
    drawMechanism(canvases.mechanism, inks, s, shown);
    const { reach, found } = now, truth = 2 * s.mu;
    drawHistogram(canvases.pathwise, inks, {
      ink: inks.decoder, name: "2 z₁", numbered: false, values: found.pathwise, reach, truth,
    });
    const name = s.baseline ? "(f − E f)(z₁ − μ)/σ²" : "f(z)(z₁ − μ)/σ²";
    drawHistogram(canvases.score, inks, {
      ink: inks.encoder, name, numbered: true, values: found.score, reach, truth,
    });
  };
  const redraw = perFrame(draw);
  const tell = () => {
    for (const name of names) model.set(name, s[name]);
    model.save_changes();
  };
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) s[name] = within(name, value);
    redraw();
  };

  on(inputs.mu, "input", () => change({ mu: +inputs.mu.value }));
  on(inputs.sigma, "input", () => change({ sigma: +inputs.sigma.value }));
  on(inputs.stop, "input", () => change({ dimension: STOPS[+inputs.stop.value] }));
  on(inputs.baseline, "change", () => change({ baseline: inputs.baseline.checked }));
  on(buttons.resample, "click", () => {
    change({ seed: s.seed + 1 });
    tell();
  });
  on(buttons.reset, "click", () => {
    change(initial);
    tell();
  });
  on(root, "change", tell);
  const toMean = ([x]) => change({ mu: (2 * x - 1) * REACH });
  drag(canvases.mechanism, { down: toMean, move: toMean, up: tell });
  const unlisten = listen(model, names, (name) => s[name], change);

  outputs.notice.textContent = model.get("notice");
  outputs.samples.textContent = s.samples.toLocaleString("en");
  read();
  draw();
  root.explorer = {
    variances, noise, numbers, change, draw, state: () => s,
    epsilons: () => [...parts().first.subarray(0, SHOWN)],
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
