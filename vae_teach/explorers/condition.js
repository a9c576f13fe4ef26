// The condition explorer: a class y, a style z, and what the decoder makes of both.

import { painter } from "./digits.js";
import {
  arrows, begin, build, clamp, drag, ellipse, fixed, on, perceptron, perFrame, product, sigmoid,
  slider, speaker, stateOf, stroke, theme, unpack, write,
} from "./shared.js";

const NAMES = ["latents", "y", "start", "draw", "z", "plane", "prior", "row"];
const CLASSES = [...Array(10).keys()], SIZES = [2, 4, 8, 20], PRIORS = ["normal", "learned"];
const PLANES = ["all", "class"];
const REACH = 4; // of the map
const SHOWN = 10; // draws in a row
const COLUMNS = ["normal", "learned", "codes", "swaps", "slant", "told"];

const line = (d) => `<tr data-row="${d}"><th scope="row">${d}</th>
  ${COLUMNS.map((column) => `<td data-out="${d}-${column}"></td>`).join("")}</tr>`;

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-dial">
  ${slider("latents", "Latents", { min: 0, max: SIZES.length - 1, step: 1 })}
  <div class="vx-ticks" aria-hidden="true">${SIZES.map((d, k) =>
    `<span style="left:${100 * k / (SIZES.length - 1)}%">${d}</span>`).join("")}</div>
</div>
<figure><figcaption>One style z, decoded with each class y <small>choose one</small></figcaption>
  <div class="vx-ten" data-out="classes"></div></figure>
<div class="vx-columns">
  <div class="vx-left">
    <fieldset class="vx-row"><legend>Style z</legend>
      <label><input type="radio" name="plane" value="all" data-in="all"> widest
        directions</label>
      <label><input type="radio" name="plane" value="class" data-in="class"> y’s own</label>
    </fieldset>
    <figure>
      <canvas class="vx-map" data-canvas="map" tabindex="0" role="application"
        aria-label="Codes of test digits, those of the chosen class y in colour, and the style z.
          Arrow keys move z; so do the two sliders below."></canvas></figure>
    <div class="vx-pair">
      ${slider("at0", "across", { min: -REACH, max: REACH, step: 0.05 })}
      ${slider("at1", "up", { min: -REACH, max: REACH, step: 0.05 })}
    </div>
  </div>
  <div class="vx-right">
    <div class="vx-pair">
      <figure><figcaption data-out="origin"></figcaption>
        <canvas class="vx-digit" data-canvas="origin" role="img"
          aria-label="The test digit whose style is taken"></canvas></figure>
      <figure><figcaption>Decoded as <span data-out="y"></span></figcaption>
        <canvas class="vx-digit" data-canvas="decoded" role="img"
          aria-label="The mean of p(x|z, y) at the style z and the class y"></canvas></figure>
    </div>
    <figure><figcaption>Take the style of a test digit</figcaption>
      <div class="vx-twenty" data-out="starts"></div></figure>
    <div class="vx-row">
      <button type="button" data-do="style">New style from N(0, I)</button>
      <button type="button" data-do="reset">Reset</button>
    </div>
  </div>
</div>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<figure><figcaption>FiLM of the first hidden layer <small>thin lines: range over the classes;
  last row: the features, of z and y</small></figcaption>
  <canvas class="vx-film" data-canvas="film" role="img"
    aria-label="Scale and shift of each feature for the chosen class, which z does not move, and
      the features, which it does"></canvas></figure>
<div class="vx-row vx-choices vx-drawn">
  <fieldset class="vx-row"><legend>Draws of</legend>
    <label><input type="radio" name="prior" value="normal" data-in="normal"> N(0, I)</label>
    <label><input type="radio" name="prior" value="learned" data-in="learned"> p(z|y)</label>
  </fieldset>
  <span><b data-out="share"></b> of <span data-out="count"></span> are read as the
    <span data-out="drawn"></span> asked for</span>
  <button type="button" data-do="others">Draw others</button>
</div>
<canvas class="vx-draws" data-canvas="draws" role="img"
  aria-label="Ten draws of the chosen prior decoded with the chosen class, under each the digit
    that the classifier reads"></canvas>
<div class="vx-scroll"><table>
  <caption>Read as the class asked for, and what z keeps</caption>
  <thead><tr><th scope="row">latents</th><th scope="col">N(0, I)</th><th scope="col">p(z|y)</th>
    <th scope="col">real codes</th><th scope="col">swaps</th><th scope="col">slant kept</th>
    <th scope="col">y told by z</th></tr></thead>
  <tbody>${SIZES.map(line).join("")}</tbody>
</table></div>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- a decoder with FiLM ------------------------------------------------------------ */

const relu = (v) => Math.max(v, 0);

/** x -> x W + b, and then the scale and the shift of one class, where there are any. */
function layerOf(arrays, name, i, y) {
  const W = arrays[`${name}.${i}.kernel`], b = arrays[`${name}.${i}.bias`];
  const film = filmOf(arrays, name, i, y);
  const plain = (x) => product(x, W, b.length).map((v, j) => v + b[j]);
  return film ? (x) => plain(x).map((v, j) => film.scale[j] * v + film.shift[j]) : plain;
}

/** 1 + a(y) and b(y) of layer i; nothing for the last layer. */
function filmOf(arrays, name, i, y) {
  const table = arrays[`${name}.film.${i}`], width = table?.shape[1];
  const of = (row) => table.subarray(row * width, (row + 1) * width);
  return table && { scale: of(y), shift: of(CLASSES.length + y) };
}

/** The model of d latents: its decoder for each class, its codes, its priors. */
function world(arrays, d) {
  const name = String(d), { lit, noise } = arrays;
  const places = [...lit.keys()].filter((p) => lit[p]);
  const layers = (y) => [0, 1, 2].map((i) => layerOf(arrays, name, i, y));
  const networks = CLASSES.map((y) => perceptron(layers(y), relu));
  const decode = (z, y) => {
    const x = new Float32Array(lit.length);
    networks[y](z).forEach((v, j) => { x[places[j]] = sigmoid(v); });
    return x;
  };
  const features = (z, y) => layerOf(arrays, name, 0, y)(z).map(relu);
  const rowOf = (array, i, size) => array.subarray(i * size, (i + 1) * size);
  const loc = (y) => rowOf(arrays[`${d}.loc`], y, d);
  /** L of the class, applied to a vector. */
  const spread = (v, y) => {
    const L = rowOf(arrays[`${d}.cholesky`], y, d * d);
    return Float32Array.from(v, (_, i) =>
      rowOf(L, i, d).reduce((sum, l, j) => sum + l * v[j], 0));
  };
  const draw = (prior, y, k) => {
    const e = rowOf(noise, k, noise.shape[1]).subarray(0, d);
    return prior === "normal" ? e : spread(e, y).map((v, i) => v + loc(y)[i]);
  };
  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  /** The pair of directions that the map shows. */
  const axes = (plane, y) => {
    const place = plane === "all" ? 0 : 1 + y;
    return [0, 1].map((k) => rowOf(arrays[`${d}.axes`], 2 * place + k, d));
  };
  const at = (pair, z) => pair.map((u) => dot(u, z));
  /** z with other coordinates on the two axes, the rest as it is. */
  const moved = (pair, z, to) => {
    const steps = at(pair, z).map((v, k) => to[k] - v);
    return Array.from(z, (v, i) => v + pair[0][i] * steps[0] + pair[1][i] * steps[1]);
  };
  /** p(z|y) on the map: points at two sd around its mean, by the root of the covariance there. */
  const outline = (pair, y) => {
    const L = rowOf(arrays[`${d}.cholesky`], y, d * d);
    const back = pair.map((u) => Float32Array.from(u, (_, j) =>
      u.reduce((sum, v, i) => sum + v * L[i * d + j], 0)));
    const a = Math.sqrt(dot(back[0], back[0])), b = dot(back[0], back[1]) / a;
    const c = Math.sqrt(Math.max(dot(back[1], back[1]) - b * b, 0)), [mx, my] = at(pair, loc(y));
    return Array.from({ length: 73 }, (_, k) => {
      const u = 2 * Math.cos(Math.PI * k / 36), v = 2 * Math.sin(Math.PI * k / 36);
      return [mx + a * u, my + b * u + c * v];
    });
  };
  const code = (k) => rowOf(arrays[`${d}.codes`], k, d);
  const verdict = (prior, y, k) => arrays[`${d}.${prior}`][y * noise.shape[0] + k];
  const films = CLASSES.map((y) => filmOf(arrays, name, 0, y));
  const map = (pair) => Array.from({ length: arrays[`${d}.map`].shape[0] }, (_, i) =>
    at(pair, rowOf(arrays[`${d}.map`], i, d)));
  return { decode, features, draw, axes, at, moved, outline, code, verdict, films, map };
}

/* ---- pictures ------------------------------------------------------------------------ */

function drawMap(canvas, inks, { codes, labels, outline, y, z }) {
  const { pen, w } = begin(canvas), unit = w / (2 * REACH);
  const X = (v) => w / 2 + v * unit, Y = (v) => w / 2 - v * unit;
  for (const r of [1, 2, 3]) {
    ellipse(pen, w / 2, w / 2, r * unit);
    pen.strokeStyle = inks.line;
    pen.lineWidth = 1.25;
    pen.stroke();
  }
  const inOrder = [...labels.keys()].sort((i, j) => (labels[i] === y) - (labels[j] === y));
  for (const i of inOrder) {
    const own = labels[i] === y, [u, v] = codes[i];
    pen.fillStyle = own ? inks[`hue-${y}`] : inks.muted;
    pen.globalAlpha = own ? 1 : 0.45;
    const style = { align: "center", size: own ? 13 : 10, weight: own ? 700 : 400 };
    write(pen, labels[i], X(u), Y(v) + 4, style);
  }
  pen.globalAlpha = 1;
  stroke(pen, inks[`hue-${y}`], 2, outline.map(([u, v]) => [X(u), Y(v)]), [6, 4]);
  pen.fillStyle = inks.ink;
  write(pen, "circles: N(0, I); dashed: p(z|y), 2 sd", 8, w - 9, { size: 11, halo: inks.soft });
  const [u, v] = z.map((c) => clamp(c, -REACH, REACH));
  for (const [colour, width] of [[inks.paper, 7], [inks.latent, 3.5]]) {
    ellipse(pen, X(u), Y(v), 11);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }
}

/** Bars of one number a feature from `zero`, over thin lines from low to high. */
function drawBars({ pen, w }, inks, { values, low, high, zero, label, colour }, top, height) {
  const left = 74, step = (w - left) / values.length;
  const least = Math.min(zero, ...low), most = Math.max(zero, ...high);
  const Y = (v) => top + height * (most - v) / (most - least || 1);
  values.forEach((v, j) => {
    const x = left + (j + 0.5) * step;
    stroke(pen, inks.muted, 1, [[x, Y(low[j])], [x, Y(high[j])]]);
    pen.fillStyle = colour;
    pen.fillRect(x - 0.35 * step, Math.min(Y(v), Y(zero)), 0.7 * step, Math.abs(Y(v) - Y(zero)));
  });
  stroke(pen, inks.line, 1, [[left, Y(zero)], [w, Y(zero)]]);
  pen.fillStyle = inks.muted;
  write(pen, String(zero), left - 6, Y(zero) + 4, { align: "right", size: 11 });
  pen.fillStyle = inks.ink;
  write(pen, label, 0, top + height / 2 + 4, { size: 13 });
}

/** Scale and shift of the class, then the features of z and the class. */
function drawFilm(canvas, inks, films, y, features) {
  const area = begin(canvas), { h } = area, rows = ["scale", "shift"].map((part, k) => {
    const all = films.map((film) => film[part]);
    const over = (f) => [...all[0].keys()].map((j) => f(...all.map((one) => one[j])));
    return {
      values: [...all[y]], low: over(Math.min), high: over(Math.max), zero: 1 - k,
      label: ["1 + a(y)", "b(y)"][k], colour: inks.decoder,
    };
  });
  const none = features.map(() => 0);
  rows.push({ values: [...features], low: none, high: features, zero: 0, label: "features",
    colour: inks.latent });
  rows.forEach((row, k) => drawBars(area, inks, row, k * h / 3 + 6, h / 3 - 14));
}

/** Decoded draws, under each what the judge reads; a frame where it is not what was asked. */
function drawDraws(canvas, inks, paint, images, reads, y) {
  const { pen, w, h } = begin(canvas), columns = w > 480 ? SHOWN : SHOWN / 2;
  const size = w / columns, pitch = h / (SHOWN / columns);
  images.forEach((image, k) => {
    const left = (k % columns) * size, top = Math.floor(k / columns) * pitch;
    const wrong = reads[k] !== y;
    paint(pen, image, left + 3, top + 3, size - 6);
    if (wrong) {
      Object.assign(pen, { strokeStyle: inks.ink, lineWidth: 2.5 });
      pen.strokeRect(left + 2, top + 2, size - 4, size - 4);
    }
    pen.fillStyle = wrong ? inks.ink : inks.muted;
    const style = { align: "center", size: 13, weight: wrong ? 700 : 400 };
    write(pen, wrong ? `${reads[k]}?` : reads[k], left + size / 2, top + size + 13, style);
  });
}

/* ---- words --------------------------------------------------------------------------- */

const percent = (x, digits = 0) => `${fixed(100 * x, digits)} %`;

function verdictOf(s, row, label) {
  const from = s.start && !s.z ? (label === s.y
    ? `A written ${label}, encoded and decoded as it is.`
    : `A swap: the style of a written ${label}, decoded as ${s.y}.`)
    : `A style z, decoded as ${s.y}.`;
  return `${from} With ${s.latents} latents ${percent(row.normal)} of the draws of N(0, I) are `
    + `read as the class asked for, ${percent(row.learned)} of p(z|y), and ${percent(row.codes)} `
    + `of the codes of real digits. From z alone the class of ${percent(row.told)} of the test `
    + "digits can be told; 10 % is chance.";
}

const evidence = ({ examples, tests, seeds, rows, draws }) => "Four conditional VAEs of "
  + `${examples.toLocaleString("en")} digits; the encoder reads the class beside the image, the `
  + "decoder by FiLM alone. This page runs the decoders, rounded to 8 bits, without the pixels "
  + "that hardly any digit reaches; every share is of the rounded ones. The map: two directions "
  + "in which all codes vary most, or in which those of y differ most from N(0, I). Draws: the "
  + `same ${draws} for each class and both priors, read by the digit classifier. p(z|y): the `
  + "normal with mean and covariance of the codes of each class, fitted after training: the "
  + `decoder is the same. Real codes: z ~ q(z|x, y) of ${tests.toLocaleString("en")} test digits, `
  + "decoded with their own y. Swaps: the means of q, decoded with every other y. Slant kept: the "
  + "correlation of the slants before and after, among digits of one class and one other. y told "
  + `by z: the y of the largest p(z|y). Of ${seeds} seeds of each size the page has the median by `
  + `the share of N(0, I), which varies with sd ${spreads(rows, "normal")} points; that of p(z|y) `
  + `with ${spreads(rows, "learned")}.`;

const spreads = (rows, name) => rows.map((row) => fixed(100 * row.spread[name], 1)).join(", ");

/* ---- the explorer -------------------------------------------------------------------- */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "condition", label: "Condition explorer", markup: MARKUP,
  });
  const worlds = Object.fromEntries(SIZES.map((d) => [d, world(arrays, d)]));
  const digits = [...arrays.labels.keys()].map((i) =>
    Float32Array.from(arrays.digits.subarray(i * 784, (i + 1) * 784), (v) => v / 255));
  const count = arrays.noise.shape[0];
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());

  const now = () => worlds[s.latents];
  const begun = () => (s.start ? now().code(s.start - 1) : now().draw("normal", s.y, s.draw));
  const axes = () => now().axes(s.plane, s.y);
  const style = () => [...(s.z?.length === s.latents ? s.z : begun())];
  const shareOf = (prior, y) => {
    let right = 0;
    for (let k = 0; k < count; k++) right += now().verdict(prior, y, k) === y;
    return right / count;
  };
  const place = () => now().at(axes(), style());
  const drawn = () => Array.from({ length: SHOWN }, (_, i) => s.row * SHOWN + i);

  /* the buttons that are digits */
  const face = (label) =>
    `<button type="button" aria-label="${label}"><canvas aria-hidden="true"
      aria-label="${label}"></canvas></button>`;
  const tens = outputs.classes, starts = outputs.starts;
  tens.innerHTML = CLASSES.map((y) => face(`decode as ${y}`)).join("");
  starts.innerHTML = digits.map((_, k) =>
    face(`style of test digit ${k + 1}: ${arrays.labels[k]}`)).join("");
  const pressed = (group, place) => [...group.children].forEach((button, k) =>
    button.setAttribute("aria-pressed", String(k === place)));

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const report = () => {
    const label = s.start && arrays.labels[s.start - 1], size = SIZES.indexOf(s.latents);
    inputs.latents.value = size;
    inputs.latents.setAttribute("aria-valuetext", `${s.latents} latents`);
    inputs[s.prior].checked = true;
    for (const plane of PLANES) {
      inputs[plane].checked = plane === s.plane;
      inputs[plane].disabled = s.latents === 2; // it is all of the plane
    }
    place().forEach((v, k) => {
      inputs[`at${k}`].value = v;
      outputs[`at${k}`].value = fixed(v);
    });
    const says = {
      latents: String(s.latents), y: String(s.y), drawn: String(s.y),
      share: percent(shareOf(s.prior, s.y)),
      origin: s.start ? `${s.z ? "Begun at" : "Test digit:"} ${label}` : "No digit: a draw",
    };
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    pressed(tens, s.y);
    pressed(starts, s.start - 1);
    for (const tr of root.querySelectorAll("[data-row]")) {
      tr.classList.toggle("vx-now", +tr.dataset.row === s.latents);
    }
    speak(verdictOf(s, facts.rows[size], label));
  };

  /* drawing */
  const hues = CLASSES.map((y) => `hue-${y}`);
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "paper", "soft", "latent", "decoder", ...hues], () => redraw());
  const paint = painter(inks);
  const picture = (canvas, x) => {
    const { pen, w } = begin(canvas);
    if (x) paint(pen, x, 0, 0, w);
  };
  const draw = () => {
    const z = style(), here = now();
    report();
    tens.querySelectorAll("canvas").forEach((canvas, y) => picture(canvas, here.decode(z, y)));
    starts.querySelectorAll("canvas").forEach((canvas, k) => picture(canvas, digits[k]));
    picture(canvases.origin, s.start ? digits[s.start - 1] : null);
    picture(canvases.decoded, here.decode(z, s.y));
    const pair = axes();
    drawMap(canvases.map, inks, {
      codes: here.map(pair), labels: arrays.map_labels, outline: here.outline(pair, s.y), y: s.y,
      z: here.at(pair, z),
    });
    drawFilm(canvases.film, inks, here.films, s.y, here.features(z, s.y));
    const images = drawn().map((k) => here.decode(here.draw(s.prior, s.y, k), s.y));
    const reads = drawn().map((k) => here.verdict(s.prior, s.y, k));
    drawDraws(canvases.draws, inks, paint, images, reads, s.y);
  };
  const redraw = perFrame(draw);

  /* controls */
  const act = (button, news) => on(button, "click", () => {
    change(news());
    tell();
  });
  const move = (to) =>
    change({ z: now().moved(axes(), style(), to.map((v) => clamp(v, -REACH, REACH))) });
  on(inputs.latents, "input", () => change({ latents: SIZES[+inputs.latents.value], z: null }));
  for (const plane of PLANES) on(inputs[plane], "change", () => change({ plane }));
  for (const prior of PRIORS) on(inputs[prior], "change", () => change({ prior }));
  [0, 1].forEach((k) => on(inputs[`at${k}`], "input", () =>
    move(place().map((v, j) => (j === k ? +inputs[`at${k}`].value : v)))));
  const follow = ([x, y]) => move([(2 * x - 1) * REACH, (1 - 2 * y) * REACH]);
  drag(canvases.map, { down: follow, move: follow, up: tell });
  arrows(canvases.map, (steps) => {
    move(place().map((v, k) => v + 0.1 * steps[k]));
    tell();
  });
  [...tens.children].forEach((button, y) => act(button, () => ({ y })));
  [...starts.children].forEach((button, k) =>
    act(button, () => ({ start: k + 1, y: arrays.labels[k], z: null })));
  act(buttons.style, () => ({ start: 0, draw: (s.draw + 1) % count, z: null }));
  act(buttons.others, () => ({ row: (s.row + 1) % Math.floor(count / SHOWN) }));
  on(buttons.reset, "click", reset);
  on(root, "change", tell);

  /* begin */
  for (const row of facts.rows) {
    for (const column of COLUMNS) {
      const text = column === "slant" ? fixed(row.slant) : percent(row[column]);
      outputs[`${row.latents}-${column}`].textContent = text;
    }
  }
  outputs.count.textContent = count;
  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = evidence({ ...facts, draws: count });
  read();
  draw();
  root.explorer = { // for tests and the console
    change, draw, state: () => s, style, decode: (z, y) => now().decode(z, y),
    films: () => now().films, draws: (prior, y, k) => now().draw(prior, y, k),
    verdict: (prior, y, k) => now().verdict(prior, y, k), place,
    features: (z, y) => now().features(z, y), outline: () => now().outline(axes(), s.y),
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
