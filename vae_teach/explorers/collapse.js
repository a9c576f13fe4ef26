// The collapse explorer: how many latents training keeps, read off the data beforehand.

import { PIXELS, painter } from "./digits.js";
import {
  begin, build, clamp, fixed, on, perFrame, slider, speaker, stateOf, stroke, theme, unpack, write,
} from "./shared.js";

const LATENTS = 20;
const LOW = 0.1, HIGH = 14; // of the line β σ², in both pictures
const SHOWN = 32; // eigenvalues
const NAMES = ["family", "beta", "variance", "guess", "shown"];
const SHOW = "Show what training did", AGAIN = "Cover, and ask me another";

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Model</legend>
    <label><input type="radio" name="family" value="linear" data-in="linear"> linear VAE</label>
    <label><input type="radio" name="family" value="deep" data-in="deep">
      VAE with a hidden layer</label>
  </fieldset>
  <button type="button" data-do="reset">Reset</button>
</div>
<div class="vx-ask">
  <p data-out="question"></p>
  ${slider("guess", "your prediction", { min: 0, max: LATENTS, step: 1 })}
  <button type="button" data-do="show"></button>
</div>
<div class="vx-columns">
  <figure class="vx-left"><figcaption>Eigenvalues of the digits, line at βσ²</figcaption>
    <canvas class="vx-scree" data-canvas="scree" role="img"
      aria-label="Eigenvalues of the covariance of the training digits, falling, on a
        logarithmic scale, with the line at β σ² and a mark at your prediction"></canvas>
    ${slider("beta", "β", { min: Math.log10(0.4), max: Math.log10(14), step: 0.005 })}
    ${slider("variance", "σ²", { min: Math.log10(0.25), max: 0, step: 0.005 })}
  </figure>
  <div class="vx-right">
    <figure><figcaption>Nats of each latent</figcaption>
      <canvas class="vx-nats" data-canvas="nats" role="img"
        aria-label="KL of each of 20 latents, falling: bars as trained, marks as
          predicted"></canvas>
    </figure>
    <figure><figcaption>Along the line: latents in use, KL</figcaption>
      <canvas class="vx-along" data-canvas="along" role="img"
        aria-label="Latents in use and total KL against β σ²: lines as predicted, dots as
          trained"></canvas>
    </figure>
  </div>
</div>
<p class="vx-key" aria-hidden="true">
  <span class="vx-key-law">read off the data, before training</span>
  <span class="vx-key-trained">measured on trained networks</span>
</p>
<dl class="vx-readouts">
  <div><dt>You predicted</dt><dd><b data-out="yours"></b> of ${LATENTS}</dd></div>
  <div><dt>Eigenvalues above</dt><dd><b data-out="law"></b> of ${LATENTS}</dd></div>
  <div><dt>Kept by training</dt>
    <dd><b data-out="kept"></b> <span data-out="seeds"></span></dd></div>
  <div><dt>KL, law / trained</dt>
    <dd><b data-out="nats"></b> <span data-out="measured"></span></dd></div>
</dl>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<figure class="vx-digits"><figcaption>Test digits, and what the trained network makes of them
  <small data-out="nearest"></small></figcaption>
  <canvas class="vx-tens" data-canvas="digits" role="img"
    aria-label="Ten test digits, each above its reconstruction by the trained network"></canvas>
</figure>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- the law ----------------------------------------------------------------------- */

/** Nats of each latent at the line t: ½ log(λ_i/t) above it, else none. */
const lawOf = (values, t) =>
  Array.from(values.slice(0, LATENTS), (v) => 0.5 * Math.log(Math.max(v / t, 1)));

const sum = (list) => list.reduce((a, b) => a + b, 0);
const countOf = (values, t) => values.slice(0, LATENTS).filter((v) => v > t).length;

/** The place in a list of lines of the one nearest to t, by their ratio. */
function nearest(lines, t) {
  const gaps = lines.map((line) => Math.abs(Math.log(line / t)));
  return gaps.indexOf(Math.min(...gaps));
}

/* ---- the trained networks ---------------------------------------------------------- */

/** The linear VAEs in the basis of the principal components: measured, and run. */
function linearFamily({ mean, vectors, values, digits, ...parts }, facts) {
  const size = vectors.shape[1], each = size * LATENTS;
  const matrix = (name, k) => parts[name].subarray(k * each, (k + 1) * each);
  const originals = Array.from({ length: digits.shape[0] }, (_, n) =>
    Float32Array.from(digits.subarray(n * PIXELS, (n + 1) * PIXELS), (v) => v / 255));
  const scores = originals.map((x) => {
    const found = new Float64Array(size);
    for (let p = 0; p < PIXELS; p++) {
      const v = x[p] - mean[p];
      for (let i = 0; i < size; i++) found[i] += v * vectors[p * size + i];
    }
    return found;
  });
  const encode = (k, score) => {
    const A = matrix("encode", k), z = new Float64Array(LATENTS);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < LATENTS; j++) z[j] += score[i] * A[i * LATENTS + j];
    }
    return z;
  };
  const decode = (k, z) => {
    const W = matrix("decode", k), code = new Float64Array(size);
    for (let j = 0; j < LATENTS; j++) {
      for (let i = 0; i < size; i++) code[i] += z[j] * W[j * size + i];
    }
    return Float32Array.from(mean, (x, p) => {
      for (let i = 0; i < size; i++) if (code[i]) x += code[i] * vectors[p * size + i];
      return x;
    });
  };
  /** KL of each latent over the training digits, from their covariance, falling. */
  const rates = (k) => {
    const A = matrix("encode", k), squares = new Float64Array(LATENTS);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < LATENTS; j++) squares[j] += values[i] * A[i * LATENTS + j] ** 2;
    }
    const logs = parts.log_variances.subarray(k * LATENTS, (k + 1) * LATENTS);
    const nats = [...squares].map((m, j) => 0.5 * (m + Math.exp(logs[j]) - 1 - logs[j]));
    return nats.sort((a, b) => b - a);
  };
  const rows = facts.linear.map((level, k) => {
    const mean = rates(k), active = [mean.filter((r) => r > facts.threshold).length];
    return { level, mean, least: mean, most: mean, active, rate: [sum(mean)] };
  });
  const drawn = new Map();
  const reconstruct = (k) => {
    if (!drawn.has(k)) drawn.set(k, scores.map((score) => decode(k, encode(k, score))));
    return drawn.get(k);
  };
  return { rows, reconstruct, originals };
}

/** The deep VAEs: what was measured, and the digits that they decoded. */
function deepFamily({ decoded }, rows) {
  const count = decoded.shape[1];
  const reconstruct = (k) => Array.from({ length: count }, (_, n) => {
    const at = (k * count + n) * PIXELS;
    return Float32Array.from(decoded.subarray(at, at + PIXELS), (v) => v / 255);
  });
  return { rows, reconstruct };
}

/* ---- pictures ---------------------------------------------------------------------- */

const share = (t) => Math.log(clamp(t, LOW, HIGH) / LOW) / Math.log(HIGH / LOW);

/** The spectrum, bar by bar; what is above the line is coloured once it is shown. */
function drawScree(canvas, inks, values, s, { t, level }) {
  const { pen, w, h } = begin(canvas);
  const box = { left: 30, right: w - 6, top: 10, bottom: h - 26 };
  const Y = (v) => box.bottom - share(v) * (box.bottom - box.top);
  const pitch = (box.right - box.left) / SHOWN, X = (i) => box.left + i * pitch;
  for (const v of [0.1, 1, 10]) {
    stroke(pen, inks.line, 1, [[box.left, Y(v)], [box.right, Y(v)]]);
    pen.fillStyle = inks.muted;
    write(pen, String(v), box.left - 5, Y(v) + 4, { align: "right", size: 11 });
  }
  for (let i = 0; i < SHOWN; i++) {
    const top = Y(values[i]), edge = s.shown ? Math.max(top, Y(t)) : top;
    pen.globalAlpha = i < LATENTS ? (s.shown ? 0.3 : 0.5) : 0.16;
    pen.fillStyle = inks.muted;
    pen.fillRect(X(i) + 1, edge, pitch - 2, box.bottom - edge);
    pen.globalAlpha = i < LATENTS ? 1 : 0.3;
    pen.fillStyle = inks.data;
    if (edge > top) pen.fillRect(X(i) + 1, top, pitch - 2, edge - top);
  }
  pen.globalAlpha = 1;
  if (s.shown && Math.abs(Math.log(level / t)) > 0.01) {
    stroke(pen, inks.latent, 1.5, [[box.left, Y(level)], [box.right, Y(level)]], [2, 3]);
  }
  drawGuess(pen, inks, box, X(s.guess), s.guess);
  stroke(pen, inks.decoder, 2.5, [[box.left, Y(t)], [box.right, Y(t)]]);
  pen.fillStyle = inks.decoder;
  const style = { align: "right", size: 14, weight: 700, halo: inks.soft };
  write(pen, `βσ² = ${fixed(t)}`, box.right - 4, Y(t) + (Y(t) < box.top + 24 ? 18 : -8), style);
  drawCount(pen, inks, box, X);
}

/** The reader's count: so many bars are to its left. */
function drawGuess(pen, inks, { right, top, bottom }, x, guess) {
  stroke(pen, inks.accent, 2, [[x, top], [x, bottom]], [5, 4]);
  pen.fillStyle = inks.accent;
  const beside = x + 52 < right;
  const style = { align: beside ? "left" : "right", size: 12, weight: 700, halo: inks.soft };
  write(pen, `you: ${guess}`, x + (beside ? 5 : -5), top + 12, style);
}

function drawCount(pen, inks, { left, bottom }, X) {
  const end = X(LATENTS) - 1;
  stroke(pen, inks.muted, 1.5, [
    [left, bottom + 4], [left, bottom + 8], [end, bottom + 8], [end, bottom + 4],
  ]);
  pen.fillStyle = inks.muted;
  write(pen, `${LATENTS} latents`, (left + end) / 2, bottom + 21, { align: "center", size: 11.5 });
}

/** In place of what the reader is to predict first. */
function drawCover(canvas, inks) {
  const { pen, w, h } = begin(canvas);
  pen.fillStyle = inks.muted;
  write(pen, "?", w / 2, h / 2 + 4, { align: "center", size: 30, weight: 700 });
  write(pen, "covered until you predict", w / 2, h / 2 + 26, { align: "center", size: 12 });
}

/** Bars of the trained nats, a mark at each predicted one, whiskers over the seeds. */
function drawNats(canvas, inks, { law, row }, most) {
  const { pen, w, h } = begin(canvas);
  const box = { left: 30, right: w - 6, top: 8, bottom: h - 18 };
  const Y = (v) => box.bottom - Math.min(v / most, 1) * (box.bottom - box.top);
  const pitch = (box.right - box.left) / LATENTS, X = (i) => box.left + i * pitch;
  for (let v = 0; v < most; v += most > 1.5 ? 1 : 0.5) {
    stroke(pen, inks.line, 1, [[box.left, Y(v)], [box.right, Y(v)]]);
    pen.fillStyle = inks.muted;
    write(pen, String(v), box.left - 5, Y(v) + 4, { align: "right", size: 11 });
  }
  for (let i = 0; i < LATENTS; i++) {
    const middle = X(i + 0.5);
    pen.fillStyle = inks.latent;
    pen.fillRect(X(i) + 1.5, Y(row.mean[i]), pitch - 3, box.bottom - Y(row.mean[i]));
    stroke(pen, inks.ink, 1.2, [[middle, Y(row.least[i])], [middle, Y(row.most[i])]]);
    stroke(pen, inks.soft, 6, [[X(i), Y(law[i])], [X(i + 1), Y(law[i])]]);
    stroke(pen, inks.data, 3, [[X(i) + 0.5, Y(law[i])], [X(i + 1) - 0.5, Y(law[i])]]);
    if (i % 5 === 4 || !i) {
      pen.fillStyle = inks.muted;
      write(pen, String(i + 1), middle, h - 4, { align: "center", size: 11 });
    }
  }
}

/** Latents in use above, total KL below, both against the line. */
function drawAlong(canvas, inks, values, rows, { t, place }, most) {
  const { pen, w, h } = begin(canvas), middle = (h - 18) / 2;
  const left = 30, right = w - 8, X = (v) => left + share(v) * (right - left);
  const steps = Array.from({ length: 241 }, (_, i) => LOW * (HIGH / LOW) ** (i / 240));
  const panels = [
    { top: 8, bottom: middle - 6, most: LATENTS, ticks: [0, 10, 20],
      law: (v) => countOf(values, v), found: (row) => row.active },
    { top: middle + 6, bottom: h - 18, most, ticks: [0, 5, 10, 20],
      law: (v) => sum(lawOf(values, v)), found: (row) => row.rate },
  ];
  for (const { top, bottom, most: end, ticks, law, found } of panels) {
    const Y = (v) => bottom - v / end * (bottom - top);
    for (const v of ticks.filter((tick) => tick <= end)) {
      stroke(pen, inks.line, 1, [[left, Y(v)], [right, Y(v)]]);
      pen.fillStyle = inks.muted;
      write(pen, String(v), left - 5, Y(v) + 4, { align: "right", size: 11 });
    }
    const fits = steps.filter((v) => law(v) <= end);
    stroke(pen, inks.data, 2.2, fits.map((v) => [X(v), Y(law(v))]));
    rows.forEach((row, k) => {
      const all = found(row), x = X(row.level), now = k === place;
      stroke(pen, inks.latent, 1.5, [[x, Y(Math.min(...all))], [x, Y(Math.max(...all))]]);
      pen.fillStyle = inks.latent;
      pen.beginPath();
      pen.arc(x, Y(sum(all) / all.length), now ? 5.5 : 3, 0, 2 * Math.PI);
      pen.fill();
    });
    stroke(pen, inks.decoder, 1.5, [[X(t), top], [X(t), bottom]]);
  }
  pen.fillStyle = inks.muted;
  for (const v of [0.1, 0.3, 1, 3, 10]) {
    write(pen, String(v), X(v), h - 4, { align: "center", size: 11 });
  }
  write(pen, "latents in use", right, 20, { align: "right", size: 11.5, halo: inks.soft });
  write(pen, "KL, nats", right, middle + 18, { align: "right", size: 11.5, halo: inks.soft });
}

/** Each digit above its reconstruction, or above a hole while that is covered. */
function drawDigits(canvas, inks, paint, originals, guesses) {
  const { pen, w, h } = begin(canvas), columns = originals.length / (w > 3 * h ? 1 : 2);
  const size = w / columns;
  originals.forEach((x, k) => {
    const left = (k % columns) * size + 2, top = 2.08 * size * Math.floor(k / columns);
    paint(pen, x, left, top, size - 4);
    if (guesses) {
      paint(pen, guesses[k].map((v) => clamp(v, 0, 1)), left, top + size, size - 4);
      return;
    }
    pen.fillStyle = inks.soft;
    pen.fillRect(left, top + size, size - 4, size - 4);
    pen.fillStyle = inks.muted;
    const style = { align: "center", size: 18, weight: 700 };
    write(pen, "?", left + size / 2 - 2, top + 1.58 * size, style);
  });
}

/* ---- words ------------------------------------------------------------------------- */

/** One number where all seeds agree, else the least and the most. */
function range(counts) {
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least === most ? String(least) : `${least} to ${most}`;
}

function verdict(s, { t, count, row, level }, values, facts) {
  if (!s.shown) {
    return `You predict that ${s.guess} of ${LATENTS} latents survive at βσ² = ${fixed(t)}. `
      + `“${SHOW}” uncovers the answer.`;
  }
  const kept = range(row.active), most = Math.max(...row.active), least = Math.min(...row.active);
  const right = least <= s.guess && s.guess <= most;
  const you = `You predicted ${s.guess}; `;
  if (s.family === "deep") return you + deepVerdict({ row, level }, values, facts);
  if (!count) {
    return `${you}training kept ${kept}. The line is above every eigenvalue, the largest of `
      + `which is ${fixed(values[0])}: no latent is worth its KL, and every digit becomes the `
      + "average digit. The KL came down to 0 without a jump; only its slope breaks there.";
  }
  const law = count === most ? ", as many as there are eigenvalues above the line"
    : `; above the line there ${count === 1 ? "is 1" : `are ${count}`}, but the nearest line `
      + `that was trained is at ${fixed(level)}`;
  return `${you}training kept ${kept}${law}${right ? ". You were right." : "."}`;
}

/** A network that the law was not made for, against the law at the line it was trained at. */
function deepVerdict({ row, level }, values, { epochs }) {
  const count = countOf(values, level), law = sum(lawOf(values, level));
  const mean = (list) => sum(list) / list.length;
  const nats = mean(row.rate), { active, rate } = row.longer ?? row, kept = mean(active);
  const fewer = Math.max(...active) < count, more = Math.min(...active) > count;
  const little = kept && mean(rate) / kept > law / count ? ", with too little in each" : "";
  const verb = fewer ? `too many${little}` : more ? "too few" : "among what the seeds kept";
  const later = row.longer ? ` After ${row.longer.epochs}: ${range(row.longer.active)} and `
    + `${fixed(mean(row.longer.rate))} nats.` : "";
  return `at ${fixed(level)}, the nearest trained line, the network with a hidden layer kept `
    + `${range(row.active)} latents and ${fixed(nats)} nats, after ${epochs} epochs.${later} `
    + `The linear law says ${count} and ${fixed(law)} nats`
    + (count ? `: its count is ${verb}.` : ", and every digit becomes the average digit.");
}

/* ---- the explorer ------------------------------------------------------------------ */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "collapse", label: "Collapse explorer", markup: MARKUP,
  });
  const values = Array.from(arrays.values);
  const linear = linearFamily(arrays, facts);
  const families = { linear, deep: deepFamily(arrays, model.get("deep")) };
  const tallest = ({ rows }) => Math.max(...rows.flatMap((row) => row.most));
  const largest = ({ rows }) => Math.max(...rows.flatMap((row) => row.rate));
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());

  const numbers = () => {
    const t = s.beta * s.variance, { rows } = families[s.family];
    const place = nearest(rows.map((row) => row.level), t), row = rows[place];
    return { t, place, row, level: row.level, law: lawOf(values, t), count: countOf(values, t) };
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const report = (now) => {
    inputs[s.family].checked = true;
    inputs.guess.value = s.guess;
    inputs.guess.setAttribute("aria-valuetext", `${s.guess} of ${LATENTS} latents`);
    for (const name of ["beta", "variance"]) {
      inputs[name].value = Math.log10(s[name]);
      inputs[name].setAttribute("aria-valuetext", fixed(s[name]));
    }
    buttons.show.textContent = s.shown ? AGAIN : SHOW;
    const { row } = now, nats = sum(row.rate) / row.rate.length;
    const hidden = (text) => (s.shown ? text : "?");
    const says = {
      question: `The line is at βσ² = ${fixed(now.t)}. Of ${LATENTS} latents, how many will `
        + "training keep?",
      guess: String(s.guess), beta: fixed(s.beta), variance: fixed(s.variance),
      yours: String(s.guess), law: hidden(String(now.count)), kept: hidden(range(row.active)),
      seeds: s.shown && row.active.length > 1 ? `of ${LATENTS}, ${row.active.length} seeds`
        : `of ${LATENTS}`,
      nats: hidden(fixed(sum(now.law))), measured: s.shown ? `/ ${fixed(nats)} nats` : "nats",
      nearest: s.shown ? `trained at βσ² = ${fixed(now.level)}, the nearest line` : "",
    };
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    speak(verdict(s, now, values, facts));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "accent", "data", "latent", "decoder", "soft"], () => redraw());
  const paint = painter(inks);
  const draw = () => {
    const now = numbers(), family = families[s.family];
    report(now);
    drawScree(canvases.scree, inks, values, s, now);
    drawDigits(canvases.digits, inks, paint, linear.originals,
      s.shown && family.reconstruct(now.place));
    if (s.shown) {
      drawNats(canvases.nats, inks, now, 1.08 * Math.max(tallest(family), now.law[0]));
      drawAlong(canvases.along, inks, values, family.rows, now, 1.08 * largest(family));
    } else {
      drawCover(canvases.nats, inks);
      drawCover(canvases.along, inks);
    }
  };
  const redraw = perFrame(draw);

  /* controls */
  /** Another of the trained lines, some steps away: a new question. */
  const another = () => {
    const { rows } = families[s.family], next = (numbers().place + 5) % rows.length;
    return { shown: false, variance: 0.5, beta: 2 * rows[next].level };
  };
  for (const name of ["linear", "deep"]) {
    on(inputs[name], "change", () => change({ family: name }));
  }
  on(inputs.guess, "input", () => change({ guess: +inputs.guess.value }));
  for (const name of ["beta", "variance"]) {
    on(inputs[name], "input", () => change({ [name]: 10 ** +inputs[name].value }));
  }
  on(buttons.show, "click", () => {
    change(s.shown ? another() : { shown: true });
    tell();
  });
  on(buttons.reset, "click", reset);
  on(root, "change", tell);

  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = `Linear VAE: ${facts.linear.length} trained, each for `
    + `${facts.steps.toLocaleString("en")} steps on the exact loss in the ${values.length} first `
    + `principal components of ${facts.examples.toLocaleString("en")} digits; this page runs them, `
    + "and its nats are those of their rounded weights. Hidden layer: 784-"
    + `${facts.hidden}-${LATENTS} and back, ${families.deep.rows.length} β, `
    + `${facts.seeds} seeds each, ${facts.epochs} epochs at σ² = 0.5; nats of test digits, `
    + "whiskers from the least to the "
    + "most of the seeds; digits as one seed decoded them. In use: above "
    + `${facts.threshold} nats. Green is exact for every βσ²; what was trained is shown at the `
    + "nearest trained line.";
  read();
  draw();
  root.explorer = {
    change, draw, numbers, state: () => s, rows: (family) => families[family].rows,
    reconstruct: (family, k) => families[family].reconstruct(k),
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
