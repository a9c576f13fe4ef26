// The schedules explorer: how the KL's weight rises, and what trainings made of it.

import {
  begin, build, clamp, drag, fixed, listen, on, perFrame, sigmoid, slider, speaker, theme, unpack,
  write,
} from "./shared.js";

const MIDDLE = 1 / 2, WIDTH = 1 / 12; // of a sigmoid, as shares of its length
const FULL = 60000; // training digits of the full data set
const LEFT = 40, RIGHT = 10; // beside the strips, in pixels
const SURE = 3; // standard errors that a difference must have
const SHAPES = ["constant", "linear", "sigmoid", "cyclical"];
const NAMES = ["learning_rate", "shape", "length", "cycles", "step"];

const choice = (group, value, label) => `<label><input type="radio" name="${group}"
  value="${value}" data-in="${group}_${String(value).replace(".", "_")}"> ${label}</label>`;
const strip = (name, label, more) => `<figure class="vx-area">
  <figcaption><span>${label} <small data-out="${name}_more"></small></span>
    <span><b data-out="${name}"></b> ${more}</span></figcaption>
  <canvas class="vx-strip-${name}" data-canvas="${name}" role="img"
    aria-label="${label} over the steps of training: “look at step” reads it"></canvas>
  </figure>`;
const against = (name) => `nats <span class="vx-versus" data-out="${name}_plain"></span>`;
const row = (name, label) => `<tr><th scope="row">${label}</th>
  <td data-out="${name}_mine"></td><td data-out="${name}_base"></td>
  <td data-out="${name}_difference"></td></tr>`;

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Schedule</legend>
    ${SHAPES.map((s) => choice("shape", s, s === "constant" ? "β = 1" : s)).join("")}</fieldset>
  <fieldset class="vx-row"><legend>Learning rate</legend>
    ${choice("rate", 0, "<span data-out='rate_0_label'></span>")}
    ${choice("rate", 1, "<span data-out='rate_1_label'></span>")}</fieldset>
</div>
<div class="vx-lengths">
  ${slider("length", "length", { min: 0, max: 2, step: 1 })}
  <fieldset class="vx-row" data-part="cycles"><legend>Cycles</legend>
    ${choice("cycles", 2, "2")}${choice("cycles", 4, "4")}</fieldset>
  <p class="vx-one" data-out="epochs"></p>
</div>
<p class="vx-key" aria-hidden="true">
  <span class="vx-key-mean">mean of three seeds</span>
  <span class="vx-key-seed">each seed</span>
  <span class="vx-key-plain">β = 1 from the first step (and in brackets)</span>
</p>
${strip("beta", "Weight of the KL, β", "")}
${strip("rate", "Rate, the KL", against("rate"))}
${strip("distortion", "Distortion", against("distortion"))}
${strip("elbo", "ELBO at β = 1", against("elbo"))}
<div class="vx-step">${slider("step", "look at step", { min: 0, max: 1, step: 1 })}</div>
<p class="vx-one vx-rise" data-out="rise"></p>
<div class="vx-ends">
  <div><table><caption>At the end <small data-out="table"></small></caption>
    <thead><tr><td></td><th scope="col">chosen</th><th scope="col">β = 1</th>
      <th scope="col">difference</th></tr></thead>
    <tbody>${row("rate", "Rate")}${row("distortion", "Distortion")}
      ${row("active", "Active units")}${row("elbo", "ELBO at β = 1")}</tbody></table>
    <div class="vx-foot">
      <p class="vx-note" aria-live="polite"></p>
      <button type="button" data-do="reset">Reset</button>
    </div></div>
  <figure><figcaption>All schedules, ELBO at the end</figcaption>
    <canvas class="vx-all" data-canvas="all" role="img" aria-label="The ELBO at β = 1 of each
      seed at the end, one line of three dots a schedule; the table has the chosen one"></canvas>
  </figure>
</div>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- the schedules ----------------------------------------------------------------- */

/** β at a step, as vae_teach.schedules has it. */
function betaAt({ shape, length, cycles }, step) {
  if (shape === "linear") return Math.min(step / length, 1);
  if (shape === "sigmoid") return sigmoid((step - MIDDLE * length) / (WIDTH * length));
  if (shape === "cyclical" && step < length) {
    const cycle = length / cycles;
    return Math.min((step % cycle) / (cycle / 2), 1);
  }
  return 1;
}

/** Where β begins to rise for the last time, and where it has reached 1. */
function lastRise({ shape, length, cycles }) {
  if (shape === "constant") return null;
  const cycle = length / cycles;
  return shape === "cyclical" ? [length - cycle, length - cycle / 2] : [0, length];
}

/* ---- what was measured ------------------------------------------------------------- */

const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;

/** Curves by learning rate, run, measure and seed, and at each point their means. */
function curvesOf({ curves }, names) {
  const [rates, runs, seeds, points, columns] = curves.shape;
  const one = (r, i, k, c) => Float32Array.from({ length: points }, (_, t) =>
    curves[(((r * runs + i) * seeds + k) * points + t) * columns + c]);
  const all = (n, f) => Array.from({ length: n }, (_, k) => f(k));
  return all(rates, (r) => all(runs, (i) => {
    const found = {};
    names.forEach((name, c) => { found[name] = all(seeds, (k) => one(r, i, k, c)); });
    found.elbo = found.rate.map((rate, k) => rate.map((v, t) => -v - found.distortion[k][t]));
    for (const name of [...names, "elbo"]) {
      const series = found[name];
      const middle = Array.from(series[0], (_, t) => mean(series.map((s) => s[t])));
      found[name] = { series, mean: middle };
    }
    return found;
  }));
}

/**
 * Standard error of the difference of any two schedules' means over the seeds, with one
 * variance for all schedules: of what is left without each schedule's and seed's level.
 */
function pooledError(table) {
  const runs = table.length, seeds = table[0].length, whole = mean(table.map(mean));
  const levels = table[0].map((_, k) => mean(table.map((values) => values[k])));
  let squares = 0;
  for (const values of table) {
    const own = mean(values);
    values.forEach((v, k) => { squares += (v - own - levels[k] + whole) ** 2; });
  }
  return Math.sqrt(squares / ((runs - 1) * (seeds - 1)) * 2 / seeds);
}

/** The same from the seeds' own differences: three can be alike by chance. */
function ownError(differences) {
  const n = differences.length, middle = mean(differences);
  const squares = differences.reduce((sum, d) => sum + (d - middle) ** 2, 0);
  return Math.sqrt(squares / (n - 1) / n);
}

/** A measure at the end: of a schedule, of β = 1, and the difference, with care. */
function compare(ends, i, name) {
  const table = ends.map((seeds) => seeds.map((row) => row[name]));
  const differences = table[i].map((v, k) => v - table[0][k]);
  return {
    mine: mean(table[i]), base: mean(table[0]), difference: mean(differences),
    error: Math.max(pooledError(table), ownError(differences)),
  };
}

/* ---- pictures ---------------------------------------------------------------------- */

/** A few round numbers between two, as [number, text]. */
function ticks(low, high) {
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, k) =>
    [(first + k) * step, fixed((first + k) * step, step < 1 ? 1 : 0)]);
}

/**
 * The range of a measure at one learning rate, whatever the schedule: not all of it, since
 * training begins far outside, and β near 0 makes the rate leap.
 */
function rangeOf(runs, name, early) {
  const means = runs.flatMap((run) => run[name].mean.slice(early)).sort((a, b) => a - b);
  const at = (share) => means[Math.round(share * (means.length - 1))];
  const plain = runs[0][name].series.map((seed) => seed.at(-1));
  if (name === "rate") return [0, at(0.97)];
  const low = name === "elbo" ? Math.min(at(0.07), ...plain) : at(0);
  const high = name === "elbo" ? at(1) : Math.max(at(0.95), ...plain);
  return [low - 0.12 * (high - low), high + 0.08 * (high - low)];
}

/** A strip's axes, and how its numbers become pixels. */
function frame(canvas, inks, { low, high, marks, steps, labelled }) {
  const sheet = begin(canvas), { pen, w, h } = sheet, bottom = labelled ? h - 20 : h - 6;
  const X = (step) => LEFT + step / steps * (w - LEFT - RIGHT);
  const Y = (v) => bottom - (v - low) / (high - low) * (bottom - 6);
  Object.assign(pen, { strokeStyle: inks.line, fillStyle: inks.muted, lineWidth: 1 });
  for (const [v, text] of marks) {
    write(pen, text, LEFT - 6, Y(v) + 4, { align: "right", size: 11 });
    pen.beginPath();
    pen.moveTo(LEFT, Math.round(Y(v)) + 0.5);
    pen.lineTo(w - RIGHT, Math.round(Y(v)) + 0.5);
    pen.stroke();
  }
  if (labelled) {
    for (let step = 0; step <= steps; step += 500) {
      const align = step === steps ? "right" : step ? "center" : "left";
      const text = step ? step.toLocaleString("en") : "step 0";
      write(pen, text, X(step) + (step === steps ? RIGHT - 2 : 0), h - 5, { align, size: 11 });
    }
  }
  return { ...sheet, X, Y, top: 0, bottom };
}

function line({ pen, X, Y }, values, every, { colour, width, alpha = 1, dash = [] }) {
  Object.assign(pen, {
    strokeStyle: colour, lineWidth: width, globalAlpha: alpha, lineJoin: "round",
  });
  pen.setLineDash(dash);
  pen.beginPath();
  values.forEach((v, k) => pen.lineTo(X(k * every), Y(v)));
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

/** The cursor, over the whole height. */
function drawCursor({ pen, X, bottom }, inks, step) {
  pen.fillStyle = inks.ink;
  pen.globalAlpha = 0.75;
  pen.fillRect(Math.round(X(step)) - 0.5, 0, 1, bottom);
  pen.globalAlpha = 1;
}

/** Where the distortion rises while β does. */
function drawRise({ pen, X, bottom }, inks, rise) {
  if (!rise || rise.up.sure <= 0) return;
  pen.fillStyle = inks.accent;
  pen.globalAlpha = 0.13;
  pen.fillRect(X(rise.from), 0, X(rise.to) - X(rise.from), bottom);
  pen.globalAlpha = 1;
}

function drawDot({ pen, X, Y }, inks, colour, step, value) {
  pen.beginPath();
  pen.arc(X(step), Y(value), 4.5, 0, 2 * Math.PI);
  Object.assign(pen, { fillStyle: colour, strokeStyle: inks.soft, lineWidth: 2 });
  pen.stroke();
  pen.fill();
}

/** β over the steps, and the plain β = 1. */
function drawBeta(canvas, inks, run, { steps, step, rise }) {
  const sheet = frame(canvas, inks, { low: -0.08, high: 1.12, marks: [[0, "0"], [1, "1"]], steps });
  drawRise(sheet, inks, rise);
  const all = Array.from({ length: steps + 1 }, (_, t) => betaAt(run, t));
  line(sheet, [1, 1], steps, { colour: inks.muted, width: 1.5, dash: [5, 4] });
  line(sheet, all, 1, { colour: inks.accent, width: 3 });
  drawCursor(sheet, inks, step);
  drawDot(sheet, inks, inks.accent, step, betaAt(run, step));
}

/** One measure: this schedule's seeds and their mean, and the mean without annealing. */
function drawMeasure(canvas, inks, { mine, plain, colour, range, labelled }, view) {
  const { steps, every, step, rise } = view, [low, high] = range;
  const sheet = frame(canvas, inks, { low, high, marks: ticks(low, high), steps, labelled });
  const { pen, w, bottom } = sheet;
  drawRise(sheet, inks, rise);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, w - LEFT, bottom);
  pen.clip();
  if (mine !== plain) {
    line(sheet, plain.mean, every, { colour: inks.muted, width: 1.5, dash: [5, 4] });
  }
  for (const seed of mine.series) line(sheet, seed, every, { colour, width: 1, alpha: 0.5 });
  line(sheet, mine.mean, every, { colour, width: 3 });
  drawCursor(sheet, inks, step);
  drawDot(sheet, inks, colour, step, mine.mean[step / every]);
  pen.restore();
  markCut(sheet, inks, mine.mean, every, range);
}

/** How high the rate leaps where the strip cuts it off. */
function markCut({ pen, X }, inks, values, every, [low, high]) {
  const top = Math.max(...values), at = values.findLastIndex((v) => v > high);
  if (low !== 0 || top <= high) return;
  pen.fillStyle = inks.ink;
  write(pen, `↑ to ${fixed(top, 0)}`, X(at * every) + 24, 14, { halo: inks.soft });
}

const lineHeight = (h, rows) => (h - 22) / rows;
const named = ({ shape, length, cycles }) =>
  shape === "constant" ? "β = 1" : `${shape} ${length}${cycles ? ` · ${cycles}` : ""}`;

/** A line of dots for each schedule, one a seed; a band where β = 1 has its seeds. */
function drawAll(canvas, inks, runs, ends, chosen) {
  const { pen, w, h } = begin(canvas), height = lineHeight(h, runs.length), left = 122;
  const values = ends.map((seeds) => seeds.map((row) => row.elbo)), every = values.flat();
  const room = 0.05 * (Math.max(...every) - Math.min(...every));
  const low = Math.min(...every) - room, high = Math.max(...every) + room;
  const X = (v) => left + (v - low) / (high - low) * (w - left - 8), bottom = h - 22;
  pen.fillStyle = inks.accent;
  pen.globalAlpha = 0.15;
  pen.fillRect(0, chosen * height, w, height);
  pen.fillStyle = inks.muted;
  const [least, most] = [Math.min(...values[0]), Math.max(...values[0])];
  pen.fillRect(X(least), 0, Math.max(X(most) - X(least), 2), bottom);
  pen.globalAlpha = 1;
  runs.forEach((run, i) => {
    const y = (i + 0.5) * height, mine = i === chosen;
    pen.fillStyle = mine ? inks.ink : inks.muted;
    write(pen, named(run), left - 8, y + 4, { align: "right", weight: mine ? 700 : 400 });
    pen.globalAlpha = mine ? 1 : 0.75;
    pen.fillRect(X(mean(values[i])) - 1, y - 6, 2, 12);
    for (const v of values[i]) {
      pen.beginPath();
      pen.arc(X(v), y, mine ? 4.5 : 3, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
  });
  pen.fillStyle = inks.muted;
  for (const [v, text] of ticks(low, high)) {
    write(pen, text, X(v), h - 6, { align: "center", size: 11 });
    pen.fillRect(Math.round(X(v)), bottom, 1, 4);
  }
}

/* ---- words ------------------------------------------------------------------------- */

const signed = (x, digits) => `${x > 0 ? "+" : ""}${fixed(x, digits)}`;
const digitsFor = (error) => (error < 1 ? 2 : 1);

/** Where the distortion rose in the last rise of β, from its least, and the ELBO there. */
function riseOf(run, found, every) {
  const ends = lastRise(run);
  if (!ends) return null;
  const first = Math.ceil(ends[0] / every), last = Math.ceil(ends[1] / every);
  const { distortion: { mean: d }, elbo: { mean: elbo } } = found;
  let from = first;
  for (let t = first; t <= last; t++) if (d[t] < d[from]) from = t;
  return {
    from: from * every, to: last * every, up: changeOf(found.distortion, from, last),
    betas: [betaAt(run, from * every), betaAt(run, last * every)],
    elbos: [elbo[from], elbo[last]], better: changeOf(found.elbo, from, last),
  };
}

/** The mean change between two points, and what three seeds leave of it for sure. */
function changeOf({ series }, from, to) {
  const changes = series.map((seed) => seed[to] - seed[from]), error = ownError(changes);
  const change = mean(changes);
  return { change, error, sure: Math.abs(change) > SURE * error ? Math.sign(change) : 0 };
}

function sayRise(rise) {
  if (!rise) return "β does not rise here. The distortion falls, as the network learns.";
  const { from, to, up, better, betas, elbos } = rise;
  if (up.sure <= 0) {
    return "The distortion does not rise by more than three seeds can show: while β rises this "
      + "slowly, learning lowers it as fast. Try cycles.";
  }
  return `Shaded: from step ${from} to ${to} β rose from ${fixed(betas[0])} to `
    + `${fixed(betas[1])}, the distortion by ${fixed(up.change, 1)} ± ${fixed(up.error, 1)} nats. `
    + (better.sure > 0 ? "Nothing is wrong: the ELBO at β = 1 rose" : "The ELBO at β = 1 went")
    + ` from ${fixed(elbos[0], 1)} to ${fixed(elbos[1], 1)}.`;
}

function verdict(run, rate, elbo, active, rival) {
  if (run.shape === "constant") {
    return `No annealing, learning rate ${rate}: an ELBO of ${fixed(elbo.mine, 1)} and `
      + `${fixed(active.mine, 1)} active units at the end. Choose a schedule to compare.`;
  }
  const { difference, error } = elbo, digits = digitsFor(error);
  const size = `${signed(difference, digits)} ± ${fixed(error, digits)} nats`;
  const sure = Math.abs(difference) > SURE * error;
  const what = `${run.shape[0].toUpperCase()}${run.shape.slice(1)} over ${run.length} steps`;
  const start = `${what}, learning rate ${rate}: `;
  if (!sure) {
    return `${start}no difference at the end that three seeds can show: ${size} of ELBO.`;
  }
  const more = difference > 0 ? "helped" : "cost a little";
  const better = rival && rival.elbo > elbo.mine
    ? ` Better still: β = 1 throughout at a learning rate of ${rival.rate}, `
      + `${fixed(rival.elbo, 1)}.` : "";
  const units = active.mine === active.base ? ""
    : `, with ${fixed(active.mine, 1)} active units instead of ${fixed(active.base, 1)}`;
  return `${start}annealing ${more}: ${size} of ELBO${units}.${better}`;
}

/* ---- the explorer ------------------------------------------------------------------ */

const nearest = (values, x) =>
  values.reduce((best, v) => (Math.abs(v - x) < Math.abs(best - x) ? v : best));

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "schedules", label: "KL schedules explorer", markup: MARKUP,
  });
  const { rates, runs, steps, every, end } = facts;
  const curves = curvesOf(arrays, ["rate", "distortion", "active"]);
  const measures = ["rate", "distortion", "elbo"];
  const ranges = curves.map((of) => Object.fromEntries(
    measures.map((name) => [name, rangeOf(of, name, Math.ceil(150 / every))])));
  const lengths = [...new Set(runs.map((run) => run.length).filter((n) => n))];
  const allCycles = [...new Set(runs.map((run) => run.cycles).filter((n) => n))];
  const within = {
    learning_rate: (v) => nearest(rates, v),
    shape: (v) => (SHAPES.includes(v) ? v : "linear"),
    length: (v) => nearest(lengths, v),
    cycles: (v) => nearest(allCycles, v),
    step: (v) => clamp(Math.round(v / every), 0, steps / every) * every,
  };
  const initial = Object.fromEntries(NAMES.map((name) => [name, within[name](model.get(name))]));
  let s = { ...initial };

  const numbers = () => {
    const rate = rates.indexOf(s.learning_rate), cyclical = s.shape === "cyclical";
    const i = runs.findIndex((run) => run.shape === s.shape
      && (s.shape === "constant" || run.length === s.length)
      && (!cyclical || run.cycles === s.cycles));
    const found = curves[rate][i], plain = curves[rate][0], run = runs[i];
    const ends = Object.fromEntries(["rate", "distortion", "active", "elbo"].map((name) =>
      [name, compare(end[rate], i, name)]));
    return { rate, i, run, found, plain, ends, rise: riseOf(run, found, every) };
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const cyclesBox = root.querySelector("[data-part=cycles]");
  const choose = ({ rate }) => {
    inputs[`rate_${rate}`].checked = true;
    inputs[`shape_${s.shape}`].checked = true;
    inputs[`cycles_${s.cycles}`].checked = true;
    cyclesBox.hidden = s.shape !== "cyclical";
    inputs.length.disabled = s.shape === "constant";
    inputs.length.value = lengths.indexOf(s.length);
    inputs.step.value = s.step;
    inputs.length.setAttribute("aria-valuetext", `${s.length} steps`);
    outputs.length.value = s.shape === "constant" ? "none" : `${s.length} steps`;
    outputs.step.value = s.step;
  };
  const report = (now) => {
    const { run, found, plain, ends, rise } = now, t = s.step / every;
    choose(now);
    const epochs = (n) => fixed(s.length * facts.batch / n, 1);
    const says = {
      epochs: run.shape === "constant" ? "β is 1 from the first step." : "Count in steps: "
        + `${epochs(facts.train)} epochs of these ${facts.train.toLocaleString("en")} digits, but `
        + `${epochs(FULL)} of the full ${FULL.toLocaleString("en")}.`,
      beta: fixed(betaAt(run, s.step)), beta_more: `at step ${s.step}`,
      rate_more: `${fixed(found.active.mean[t], 0)} of ${facts.latents} units active`,
      distortion_more: "the reconstruction term", elbo_more: "what to watch",
      rise: sayRise(rise),
    };
    for (const name of measures) {
      says[name] = fixed(found[name].mean[t], 1);
      says[`${name}_plain`] = found === plain ? "" : `(${fixed(plain[name].mean[t], 1)})`;
    }
    for (const [name, { mine, base, difference, error }] of Object.entries(ends)) {
      const digits = digitsFor(error);
      says[`${name}_mine`] = fixed(mine, 1);
      says[`${name}_base`] = fixed(base, 1);
      says[`${name}_difference`] = found === plain ? "–"
        : `${signed(difference, digits)} ± ${fixed(error, digits)}`;
    }
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    inputs.step.setAttribute("aria-valuetext", `step ${s.step}: β ${says.beta}, rate ${says.rate}, `
      + `distortion ${says.distortion}, ELBO ${says.elbo}`);
    const other = rates.findIndex((_, r) => r !== now.rate);
    const rival = { rate: rates[other], elbo: compare(end[other], 0, "elbo").base };
    speak(verdict(run, s.learning_rate, ends.elbo, ends.active, rival));
  };

  /* drawing */
  const colours = ["ink", "muted", "line", "latent", "decoder", "accent", "paper", "soft"];
  const { inks, read, stop } = theme(root, colours, () => redraw());
  const draw = () => {
    const now = numbers(), { found, plain, rise } = now;
    report(now);
    const view = { steps, every, step: s.step, rise };
    drawBeta(canvases.beta, inks, now.run, view);
    const inked = { rate: inks.latent, distortion: inks.decoder, elbo: inks.ink };
    for (const name of measures) {
      drawMeasure(canvases[name], inks, {
        mine: found[name], plain: plain[name], colour: inked[name],
        range: ranges[now.rate][name], labelled: name === "elbo",
      }, view);
    }
    drawAll(canvases.all, inks, runs, end[now.rate], now.i);
  };
  const redraw = perFrame(draw);
  const tell = () => {
    for (const name of NAMES) model.set(name, s[name]);
    model.save_changes();
  };
  const change = (news) => {
    for (const [name, value] of Object.entries(news)) s[name] = within[name](value);
    redraw();
  };

  /* controls */
  inputs.step.max = steps;
  inputs.step.step = every;
  inputs.length.max = lengths.length - 1;
  rates.forEach((rate, r) => {
    outputs[`rate_${r}_label`].textContent = rate;
    on(inputs[`rate_${r}`], "change", () => change({ learning_rate: rate }));
  });
  for (const shape of SHAPES) on(inputs[`shape_${shape}`], "change", () => change({ shape }));
  for (const n of allCycles) on(inputs[`cycles_${n}`], "change", () => change({ cycles: n }));
  on(inputs.length, "input", () => change({ length: lengths[+inputs.length.value] }));
  on(inputs.step, "input", () => change({ step: +inputs.step.value }));
  for (const name of ["beta", ...measures]) {
    const inside = ([u]) => {
      const w = canvases[name].clientWidth;
      change({ step: (u * w - LEFT) / (w - LEFT - RIGHT) * steps });
    };
    drag(canvases[name], { down: inside, move: inside, up: tell });
  }
  on(canvases.all, "click", ({ offsetY }) => {
    const height = lineHeight(canvases.all.clientHeight, runs.length);
    const { shape, length, cycles } = runs[clamp(Math.floor(offsetY / height), 0, runs.length - 1)];
    change({ shape, ...(length && { length }), ...(cycles && { cycles }) });
    tell();
  });
  on(buttons.reset, "click", () => {
    change(initial);
    tell();
  });
  on(root, "change", tell);
  const unlisten = listen(model, NAMES, (name) => s[name], change);

  outputs.notice.textContent = model.get("notice");
  outputs.table.textContent = `step ${steps.toLocaleString("en")}`;
  outputs.evidence.textContent = `${end[0][0].length} seeds of 784-${facts.hidden}-`
    + `${facts.latents} networks a schedule, the same at each, Bernoulli decoder, Adam, batches of `
    + `${facts.batch} of ${facts.train.toLocaleString("en")} digits. Curves: ${facts.shown} test `
    + `digits; end: ${facts.test.toLocaleString("en")}. ± is a standard error of the difference `
    + "of means over the seeds: the larger of that of the seeds’ own differences and that with "
    + "the variance pooled over all schedules at this learning rate. Under "
    + `${SURE} of them the page sees no difference. “cyclical 800 · 4”: 4 cycles in 800 steps.`;
  read();
  draw();
  root.explorer = { betaAt, change, draw, numbers, state: () => s };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
