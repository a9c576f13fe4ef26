// The holes explorer: the aggregated posterior against a prior, on a grid of the plane.

import { painter } from "./digits.js";
import {
  arrows, begin, build, clamp, drag, ellipse, fixed, mlp, normals, on, perFrame, sigmoid, slider,
  speaker, stateOf, theme, uniforms, unpack, write,
} from "./shared.js";

const NAMES = ["z", "prior", "components", "seed"];
const SAMPLES = 12, HOLES = 3;
const BRIGHT = 0.12; // the difference of densities that has the full colour
const NEAR = 3, APART = 16; // nodes: a hole is a square of 7 x 7; the next is elsewhere
const COLUMNS = ["distance", "in_holes", "sure", "commonest", "held_out"];
const ROWS = { normal: "N(0, I)", mixture: "", itself: "q(z) itself" };

const row = (name) => `<tr data-row="${name}"><th scope="row" data-out="${name}-name"></th>
  ${COLUMNS.map((column) => `<td data-out="${name}-${column}"></td>`).join("")}</tr>`;

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Prior</legend>
    <label><input type="radio" name="prior" value="normal" data-in="normal"> N(0, I)</label>
    <label><input type="radio" name="prior" value="mixture" data-in="mixture">
      fitted mixture</label>
  </fieldset>
  ${slider("components", "its normals", { min: 0, max: 7, step: 1 })}
  <button type="button" data-do="reset">Reset</button>
</div>
<div class="vx-columns">
  <div class="vx-left">
    <figure><figcaption>q(z) − <span data-out="which"></span></figcaption>
      <canvas class="vx-map" data-canvas="map" tabindex="0" role="application"
        aria-label="The latent plane, coloured by q(z) minus the prior's density, the deepest
          holes numbered. Arrow keys move the point z; so do the two sliders below."></canvas>
    </figure>
    <p class="vx-key" aria-hidden="true"><span class="vx-key-more">more codes than samples</span>
      <span class="vx-key-less">more samples than codes</span></p>
    <div class="vx-pair">
      ${slider("z0", "z₁", { min: -4, max: 4, step: 0.05 })}
      ${slider("z1", "z₂", { min: -4, max: 4, step: 0.05 })}
    </div>
  </div>
  <div class="vx-right">
    <figure><figcaption>Decoded <small>at the point z</small></figcaption>
      <canvas class="vx-digit" data-canvas="decoded" role="img"
        aria-label="The mean of p(x|z) at the point z"></canvas>
    </figure>
    <div class="vx-at-point">
      <dl class="vx-readouts">
        <div><dt>q(z) / prior</dt><dd><b data-out="ratio"></b></dd></div>
        <div><dt>The judge reads</dt>
          <dd><b data-out="digit"></b> <span data-out="certainty"></span></dd></div>
      </dl>
      <button type="button" data-do="hole">Next hole</button>
    </div>
  </div>
</div>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<div class="vx-scroll"><table>
  <caption>Samples of three distributions</caption>
  <thead><tr><td></td><th scope="col">distance to q</th><th scope="col">in holes</th>
    <th scope="col">judge sure</th><th scope="col">commonest</th>
    <th scope="col">test codes, nats</th></tr></thead>
  <tbody>${Object.keys(ROWS).map(row).join("")}</tbody>
</table></div>
<figure class="vx-drawn"><figcaption>${SAMPLES} draws of N(0, I), ${SAMPLES} of the mixture,
  decoded</figcaption>
  <canvas class="vx-twelve" data-canvas="samples" role="img"
    aria-label="Decoded draws of N(0, I) above, of the fitted mixture below; under each the digit
      that the judge is sure of, or a question mark"></canvas>
</figure>
<button type="button" data-do="draw">Draw others</button>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- densities --------------------------------------------------------------------- */

const LOG_TAU = Math.log(2 * Math.PI);
const standard = (x, y) => -0.5 * (x * x + y * y) - LOG_TAU;

/** A mixture of normals from its rows: log weight, mean, and L of L Lᵀ. */
function mixture(rows) {
  const parts = [];
  for (let i = 0; i < rows.length; i += 6) {
    const [weight, mx, my, a, b, c] = rows.subarray(i, i + 6);
    parts.push({ weight, mx, my, a, b, c, top: weight - Math.log(a * c) - LOG_TAU });
  }
  const log = (x, y) => {
    let density = 0;
    for (let k = 0; k < parts.length; k++) {
      const { mx, my, a, b, c, top } = parts[k], u = (x - mx) / a, v = (y - my - b * u) / c;
      density += Math.exp(top - 0.5 * (u * u + v * v));
    }
    return Math.log(density);
  };
  const sample = (uniform, normal) => {
    let left = uniform(), k = 0;
    while (k < parts.length - 1 && (left -= Math.exp(parts[k].weight)) > 0) k++;
    const { mx, my, a, b, c } = parts[k], u = normal(), v = normal();
    return [mx + a * u, my + b * u + c * v];
  };
  return { log, sample };
}

/* ---- the grid ---------------------------------------------------------------------- */

/** Nodes in rows of equal z₂, both from low to high, and q's log density at each. */
function grid({ log_q: logQ, digit, certainty }, { reach, sure, hole }) {
  const side = logQ.shape[0], step = 2 * reach / (side - 1), area = step * step;
  const nearest = (v) => clamp(Math.round((v + reach) / step), 0, side - 1);
  const at = (i) => -reach + i * step;
  const look = (z) => {
    const place = nearest(z[1]) * side + nearest(z[0]);
    return { logQ: logQ[place], digit: digit[place], certainty: certainty[place] / 255 };
  };
  const tabulate = (log) => {
    const table = new Float64Array(logQ.length);
    for (let i = 0; i < table.length; i++) table[i] = log(at(i % side), at(Math.floor(i / side)));
    return table;
  };
  const isHole = (logP, i) => logQ[i] < logP + Math.log(hole);
  /** Total variation to q, and shares of the prior's samples. */
  const compare = (table) => {
    const shares = new Float64Array(10), found = { distance: 0, in_holes: 0, sure: 0 };
    table.forEach((logP, i) => {
      const p = Math.exp(logP) * area, q = Math.exp(logQ[i]) * area;
      found.distance += Math.abs(q - p) / 2;
      if (isHole(logP, i)) found.in_holes += p;
      if (certainty[i] > 255 * sure) found.sure += p;
      shares[digit[i]] += p;
    });
    const commonest = Math.max(...shares);
    return { ...found, commonest, reads: shares.indexOf(commonest) };
  };
  /** Of the nodes in holes those whose square misses most mass, at most HOLES, apart. */
  const holes = (table) => {
    const gaps = table.map((logP, i) => Math.exp(logP) - Math.exp(logQ[i]));
    const missing = sums(gaps, side).map((gap, i) => (isHole(table[i], i) ? gap : 0));
    const found = [];
    while (found.length < HOLES) {
      let best = -1, most = 0;
      missing.forEach((value, i) => {
        const column = i % side, row = Math.floor(i / side);
        const free = found.every((h) => Math.hypot(h[0] - column, h[1] - row) >= APART);
        if (free && value > most) [best, most] = [i, value];
      });
      if (best < 0) break;
      found.push([best % side, Math.floor(best / side)]);
    }
    return found.map((place) => place.map(at));
  };
  const snap = (z) => z.map((v) => at(nearest(v)));
  return { side, step, look, tabulate, compare, holes, snap, logQ, itself: () => compare(logQ) };
}

/** Of each node the sum over the square around it; 0 at the rim. */
function sums(values, side) {
  const rows = new Float64Array(values.length), both = new Float64Array(values.length);
  for (let i = NEAR * side; i < values.length - NEAR * side; i++) {
    for (let k = -NEAR; k <= NEAR; k++) rows[i] += values[i + k * side];
  }
  for (let i = NEAR * side; i < values.length - NEAR * side; i++) {
    const column = i % side;
    if (column < NEAR || column >= side - NEAR) continue;
    for (let k = -NEAR; k <= NEAR; k++) both[i] += rows[i + k];
  }
  return both;
}

/* ---- pictures ---------------------------------------------------------------------- */

const channels = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number);

/** The difference as one pixel a node: blue above, orange below, z₂ upwards. */
function sheetOf({ side, logQ }, inks, table) {
  const sheet = new OffscreenCanvas(side, side), pen = sheet.getContext("2d");
  const image = pen.createImageData(side, side), none = channels(inks.soft);
  const more = channels(inks.encoder), less = channels(inks.decoder);
  table.forEach((logP, i) => {
    const column = i % side, row = side - 1 - Math.floor(i / side);
    const difference = (Math.exp(logQ[i]) - Math.exp(logP)) / BRIGHT;
    const full = difference > 0 ? more : less, share = Math.min(1, Math.abs(difference));
    const k = 4 * (row * side + column);
    for (let c = 0; c < 3; c++) image.data[k + c] = none[c] + share * (full[c] - none[c]);
    image.data[k + 3] = 255;
  });
  pen.putImageData(image, 0, 0);
  return sheet;
}

function drawMap(canvas, inks, sheet, { reach, step }, holes, z) {
  const { pen, w } = begin(canvas), unit = w / (2 * reach + step);
  const X = (v) => w / 2 + v * unit, Y = (v) => w / 2 - v * unit;
  pen.imageSmoothingEnabled = true;
  pen.drawImage(sheet, 0, 0, w, w);
  pen.strokeStyle = inks.muted;
  pen.lineWidth = 1;
  pen.globalAlpha = 0.5;
  for (const r of [1, 2, 3]) {
    ellipse(pen, w / 2, w / 2, r * unit);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.fillStyle = inks.ink;
  write(pen, "circles: N(0, I) at 1, 2, 3 sd", 8, w - 9, { size: 11, halo: inks.soft });
  holes.forEach(([x, y], k) => {
    ellipse(pen, X(x), Y(y), 9);
    pen.fillStyle = inks.paper;
    pen.fill();
    pen.fillStyle = inks.ink;
    write(pen, String(k + 1), X(x), Y(y) + 4, { align: "center", size: 12, weight: 700 });
  });
  for (const [colour, width] of [[inks.paper, 7], [inks.latent, 3.5]]) {
    ellipse(pen, X(z[0]), Y(z[1]), 13);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }
}

/** Decoded draws in two rows, under each what the judge is sure of; a frame: in a hole. */
function drawSamples(canvas, inks, paint, rows) {
  const { pen, w, h } = begin(canvas), columns = w > 480 ? SAMPLES : SAMPLES / 2;
  const size = w / columns, lines = SAMPLES / columns, pitch = h / (rows.length * lines);
  rows.forEach((samples, r) => samples.forEach(({ image, says, hole }, k) => {
    const left = (k % columns) * size + 1.5;
    const top = (lines * r + Math.floor(k / columns)) * pitch + 1.5;
    paint(pen, image, left, top, size - 3);
    if (hole) {
      pen.strokeStyle = inks.decoder;
      pen.lineWidth = 3;
      pen.strokeRect(left + 1, top + 1, size - 5, size - 5);
    }
    pen.fillStyle = says === "?" ? inks.muted : inks.ink;
    write(pen, says, left + size / 2 - 2, top + size + 12, { align: "center", size: 13 });
  }));
}

/* ---- words ------------------------------------------------------------------------- */

const percent = (x, digits = 0) => `${fixed(100 * x, digits)} %`;

/** q/p for people: as a number above ½, else as one over a number. */
function ratioOf(x) {
  if (x >= 0.5) return x < 10 ? fixed(x) : Math.round(Math.min(x, 1e4)).toLocaleString("en");
  return x < 1e-4 ? "< 1/10,000" : `1/${fixed(1 / x, x > 0.1 ? 1 : 0)}`;
}

function verdict(now, s, { sure, hole, reconstructed }) {
  const { ratio, seen, rows, itself, holes } = now;
  const name = s.prior === "normal" ? "N(0, I)" : "the mixture";
  const where = ratio < hole ? `A hole: ${name} samples here, and q(z) is ${ratioOf(ratio)} of it.`
    : ratio < 1 ? `${name} samples here more than codes are, but it is no hole: q is `
      + `${ratioOf(ratio)} of it.`
      : `Codes are at home here: q is ${ratioOf(ratio)} times ${name}.`;
  const judge = seen.certainty > sure ? `The judge is sure that this is a ${seen.digit}.`
    : `The judge reads a ${seen.digit} at ${percent(seen.certainty, 1)}, and is not sure.`;
  const [a, b] = [rows.normal, rows.mixture];
  return `${holes.length ? "" : "No hole is left. "}${where} ${judge} Of draws of N(0, I) `
    + `${percent(a.in_holes, 1)} fall into holes, and ${percent(a.sure)} decode to what the judge `
    + `is sure of; of the mixture ${percent(b.in_holes, 1)} and ${percent(b.sure)}. Of q(z) itself `
    + `it is ${percent(itself.sure)}, of test digits encoded and decoded `
    + `${percent(reconstructed)}: the rest is not the prior's, but the decoder's.`;
}

function evidence({ examples, tests, least, reconstructed, sure, hole, beta, reach }, step) {
  return `The latent explorer's model at β = ${beta}, its decoder rounded; q(z) is the mixture of `
    + `the posteriors of ${examples.toLocaleString("en")} training digits, exact at each node of a `
    + `grid (every ${fixed(step)}, out to ${reach}). Distance: total variation, a sum over the `
    + `grid; were so many codes drawn from N(0, I) itself, it would still be ${fixed(least)}. In `
    + `holes: the share of samples where q is below ${hole} of the prior. Judge sure: the digit `
    + `classifier gives one digit more than ${percent(sure)}; of reconstructed test digits it is `
    + `sure of ${percent(reconstructed)}. Test codes: the mean log density of codes of `
    + `${tests.toLocaleString("en")} test digits; a nat more is a nat less of rate. Mixtures `
    + "of full normals by EM on one code of each training digit.";
}

/* ---- the explorer ------------------------------------------------------------------ */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "holes", label: "Holes explorer", markup: MARKUP,
  });
  const plane = grid(arrays, facts), network = mlp(arrays, "decoder");
  const decode = (z) => network(z).map(sigmoid);
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());

  /** A prior by its number of components, 0 for N(0, I), and all that it costs to know. */
  const known = new Map();
  const about = (k) => {
    if (!known.has(k)) {
      const rows = k && mixture(arrays.mixtures.subarray(6 * (k - 1), 6 * (2 * k - 1)));
      const prior = rows || { log: standard, sample: (_, normal) => [normal(), normal()] };
      const table = plane.tabulate(prior.log);
      const held = facts.rows.find((one) => one.components === k).held_out;
      const found = { ...plane.compare(table), held_out: held };
      known.set(k, { ...prior, table, found, holes: plane.holes(table) });
    }
    return known.get(k);
  };
  const itself = plane.itself();
  const chosen = () => about(s.prior === "normal" ? 0 : s.components);
  const point = () => plane.snap(s.z ?? chosen().holes[0] ?? [0, 0]);
  const numbers = () => {
    const z = point(), seen = plane.look(z), prior = chosen();
    const ratio = Math.exp(seen.logQ - prior.log(...z));
    const rows = { normal: about(0).found, mixture: about(s.components).found };
    return { z, seen, ratio, rows, itself, holes: prior.holes };
  };
  const strips = new Map();
  const drawn = (k) => {
    const key = [k, s.seed].join();
    if (!strips.has(key)) strips.set(key, drawNow(about(k)));
    return strips.get(key);
  };
  const drawNow = (prior) => {
    const uniform = uniforms(s.seed), normal = normals(uniform);
    return Array.from({ length: SAMPLES }, () => {
      const z = prior.sample(uniform, normal), { logQ, digit, certainty } = plane.look(z);
      const hole = logQ < prior.log(...z) + Math.log(facts.hole);
      return { image: decode(z), says: certainty > facts.sure ? String(digit) : "?", hole };
    });
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const fill = (name, found) => {
    const says = {
      distance: fixed(found.distance), in_holes: percent(found.in_holes, 1),
      sure: percent(found.sure), commonest: `${found.reads}: ${percent(found.commonest)}`,
      held_out: found.held_out === undefined ? "" : fixed(found.held_out),
    };
    for (const [column, text] of Object.entries(says)) {
      outputs[`${name}-${column}`].textContent = text;
    }
  };
  const report = (now) => {
    inputs[s.prior].checked = true;
    inputs.components.value = Math.log2(s.components);
    inputs.components.setAttribute("aria-valuetext", `${s.components} normals`);
    outputs.components.value = String(s.components);
    now.z.forEach((v, k) => {
      inputs[`z${k}`].value = v;
      outputs[`z${k}`].value = fixed(v);
    });
    const says = {
      which: s.prior === "normal" ? "N(0, I)" : `mixture of ${s.components}`,
      ratio: ratioOf(now.ratio), digit: String(now.seen.digit),
      certainty: `at ${percent(now.seen.certainty)}`,
      "mixture-name": `mixture of ${s.components}`,
    };
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    for (const name of Object.keys(now.rows)) fill(name, now.rows[name]);
    for (const line of root.querySelectorAll("[data-row]")) {
      line.classList.toggle("vx-now", line.dataset.row === s.prior);
    }
    speak(verdict(now, s, facts));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "encoder", "decoder", "latent", "paper", "soft"], () => redraw());
  const paint = painter(inks);
  let sheet = { key: "" };
  const draw = () => {
    const now = numbers(), key = [s.prior, s.components, inks.soft].join();
    report(now);
    if (sheet.key !== key) sheet = { key, image: sheetOf(plane, inks, chosen().table) };
    drawMap(canvases.map, inks, sheet.image, { reach: facts.reach, step: plane.step }, now.holes,
      now.z);
    const { pen, w } = begin(canvases.decoded);
    paint(pen, decode(now.z), 0, 0, w);
    drawSamples(canvases.samples, inks, paint, [drawn(0), drawn(s.components)]);
  };
  const redraw = perFrame(draw);

  /* controls */
  const move = (z) => change({ z: plane.snap(z) });
  for (const name of ["normal", "mixture"]) {
    on(inputs[name], "change", () => change({ prior: name }));
  }
  on(inputs.components, "input", () =>
    change({ components: 2 ** +inputs.components.value, prior: "mixture" }));
  for (const k of [0, 1]) {
    const input = inputs[`z${k}`];
    on(input, "input", () => move(point().map((v, j) => (j === k ? +input.value : v))));
  }
  const toZ = ([x, y]) => [2 * x - 1, 1 - 2 * y].map((v) => v * (facts.reach + plane.step / 2));
  const follow = (spot) => move(toZ(spot));
  drag(canvases.map, { down: follow, move: follow, up: tell });
  arrows(canvases.map, (steps) => {
    move(point().map((v, k) => v + plane.step * steps[k]));
    tell();
  });
  on(buttons.hole, "click", () => {
    const { holes } = chosen(), z = point();
    const here = holes.findIndex((hole) => hole.every((v, k) => Math.abs(v - z[k]) < 1e-6));
    if (holes.length) move(holes[(here + 1) % holes.length]);
    tell();
  });
  on(buttons.draw, "click", () => {
    change({ seed: s.seed + 1 });
    tell();
  });
  on(buttons.reset, "click", reset);
  on(root, "change", tell);

  /* begin */
  for (const [name, text] of Object.entries(ROWS)) outputs[`${name}-name`].textContent = text;
  fill("itself", itself);
  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = evidence(facts, plane.step);
  read();
  draw();
  root.explorer = {
    change, draw, numbers, decode, holes: () => chosen().holes, table: (k) => about(k).table,
    samples: (k, n) => {
      const uniform = uniforms(5), normal = normals(uniform);
      return Array.from({ length: n }, () => about(k).sample(uniform, normal));
    },
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
