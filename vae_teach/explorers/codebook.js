// The codebook explorer: two VQ-VAEs run here both ways, a code for each patch of a digit.

import { PIXELS, SIDE, pad, painter } from "./digits.js";
import {
  arrows, begin, build, clamp, drag, fixed, on, perFrame, product, sigmoid, slider, speaker,
  stateOf, stroke, theme, uniforms, unpack, write,
} from "./shared.js";

const CODES = 256, GRID = 7, PATCH = 4, PLACES = GRID * GRID, SPOTS = PATCH * PATCH;
const COLUMNS = 16, DRAWS = 12; // of the palette; samples of each kind
const NAMES = ["restarts", "digit", "place", "codes", "look", "seed"];

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Restarts of dead codes</legend>
    <label><input type="radio" name="restarts" value="on" data-in="on"> on</label>
    <label><input type="radio" name="restarts" value="off" data-in="off"> off</label>
  </fieldset>
  <div class="vx-row">
    <label>digit <select data-in="class"></select></label>
    <button type="button" data-do="next">Next</button>
    <button type="button" data-do="clear">Clear</button>
    <button type="button" data-do="reset">Reset</button>
  </div>
</div>
<dl class="vx-readouts">
  <div><dt>Codes used</dt><dd><b data-out="used"></b> of ${CODES}</dd></div>
  <div><dt>Perplexity</dt><dd><b data-out="perplexity"></b> of ${CODES}</dd></div>
  <div><dt>Distortion, test digits</dt><dd><b data-out="distortion"></b> nats</dd></div>
  <div><dt>Rate, learned prior</dt><dd><b data-out="rate"></b> of
    <span data-out="uniform"></span> nats</dd></div>
</dl>
<div class="vx-quantised">
  <figure><figcaption>Digit x <small>draw on it</small></figcaption>
    <canvas class="vx-digit vx-pad" data-canvas="x" role="img"
      aria-label="The digit x, with the patches marked that the encoder reads for the chosen
        place; draw your own with mouse or finger"></canvas></figure>
  <figure><figcaption>Its ${PLACES} codes <small>click one</small></figcaption>
    <canvas class="vx-tokens" data-canvas="codes" tabindex="0" role="application"
      aria-label="The grid of codes, ${GRID} by ${GRID} integers. Arrow keys choose a place."
    ></canvas></figure>
  <figure><figcaption>Decoded <small>from codes</small></figcaption>
    <canvas class="vx-digit vx-pick" data-canvas="decoded" role="img"
      aria-label="What the decoder makes of the codes, with the patches marked that the chosen
        code can reach"></canvas></figure>
</div>
<div class="vx-row vx-swap">
  ${slider("rank", "Code at the place, by use", { min: 1, max: CODES, step: 1 })}
  <button type="button" data-do="undo">Codes of the digit</button>
</div>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<div class="vx-columns">
  <div class="vx-left">
    <fieldset class="vx-row"><legend>What each code draws</legend>
      <label><input type="radio" name="look" value="here" data-in="here"> here</label>
      <label><input type="radio" name="look" value="average" data-in="average">
        on average</label>
    </fieldset>
    <canvas class="vx-palette" data-canvas="palette" tabindex="0" role="application"
      aria-label="The ${CODES} codes as patches, the most used first, dead ones struck out. Arrow
        keys put another code at the chosen place."></canvas>
    <p class="vx-one" data-out="hover"></p>
  </div>
  <figure class="vx-right"><figcaption>Use of each code <small data-out="tokens"></small>
    </figcaption>
    <canvas class="vx-use" data-canvas="use" role="img"
      aria-label="How many tokens have each code, sorted, on a logarithmic scale, the codes of this
        digit marked; the note and the numbers above say how many are used"></canvas>
    <p class="vx-key" aria-hidden="true"><span class="vx-key-here">in this digit</span>
      <span class="vx-key-use">in others</span>
      <span class="vx-key-other" data-out="other"></span></p>
  </figure>
</div>
<div class="vx-row vx-sampled"><b>Without a digit</b>
  <button type="button" data-do="draw">Draw others</button></div>
<figure><figcaption><small>each code uniform over the ${CODES}</small></figcaption>
  <canvas class="vx-grids" data-canvas="uniform" role="img"
    aria-label="Twelve decoded grids of uniform codes"></canvas></figure>
<figure><figcaption><small>codes from the learned prior</small></figcaption>
  <canvas class="vx-grids" data-canvas="prior" role="img"
    aria-label="Twelve decoded grids of codes from the learned prior"></canvas></figure>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- the VQ-VAE -------------------------------------------------------------------- */

const relu = (h) => h.map((v) => (v > 0 ? v : 0));

/** Pixel i of the image at each spot of a patch: row by row in both. */
const PIXEL = Array.from({ length: PLACES }, (_, place) =>
  Array.from({ length: SPOTS }, (_, spot) => {
    const row = Math.floor(place / GRID) * PATCH + Math.floor(spot / PATCH);
    return row * SIDE + (place % GRID) * PATCH + (spot % PATCH);
  }));

/** The places around one, row by row; -1 outside. */
const AROUND = Array.from({ length: PLACES }, (_, place) =>
  Array.from({ length: 9 }, (_, k) => {
    const row = Math.floor(place / GRID) + Math.floor(k / 3) - 1;
    const column = (place % GRID) + (k % 3) - 1;
    const inside = Math.min(row, column) >= 0 && Math.max(row, column) < GRID;
    return inside ? row * GRID + column : -1;
  }));

/** Encoder, codebook and decoder of one model, from its arrays. */
function vqvae(arrays, which) {
  const layer = (name) => {
    const W = arrays[`${which}.${name}.kernel`], b = arrays[`${which}.${name}.bias`];
    return (x) => product(x, W, b.length).map((v, j) => v + b[j]);
  };
  const [look, mixIn, head] = ["embed", "mix", "head"].map((name) => layer(`encoder.${name}`));
  const [, mixOut, paint] = ["embed", "mix", "paint"].map((name) => layer(`decoder.${name}`));
  const table = arrays[`${which}.table`], size = table.shape[1];
  const vectors = Array.from({ length: CODES }, (_, k) =>
    table.subarray(k * size, (k + 1) * size));
  const halves = vectors.map((e) => e.reduce((sum, v) => sum + v * v, 0) / 2);
  const shown = vectors.map(layer("decoder.embed")).map(relu), width = shown[0].length;
  // What a code adds at its own place, before the second relu.
  const M = arrays[`${which}.decoder.mix.kernel`];
  const centre = M.subarray(4 * width * width, 5 * width * width);
  const added = shown.map((h) => product(h, centre, width));

  const windowOf = (h, place) => {
    const all = new Float32Array(9 * width);
    AROUND[place].forEach((other, k) => other >= 0 && all.set(h[other], k * width));
    return all;
  };
  const nearest = (y) => {
    let best = 0, least = Infinity;
    vectors.forEach((e, k) => {
      let d = halves[k];
      for (let j = 0; j < size; j++) d -= y[j] * e[j];
      if (d < least) [best, least] = [k, d];
    });
    return best;
  };
  const encode = (x) => {
    const h = PIXEL.map((pixels) => relu(look(Float32Array.from(pixels, (i) => x[i]))));
    return h.map((_, place) => nearest(head(relu(mixIn(windowOf(h, place))))));
  };
  const logits = (codes) => {
    const h = codes.map((k) => shown[k]), image = new Float32Array(PIXELS);
    PIXEL.forEach((pixels, place) => {
      const patch = paint(relu(mixOut(windowOf(h, place))));
      pixels.forEach((i, spot) => { image[i] = patch[spot]; });
    });
    return image;
  };
  /** The patch of each code at a place, the other codes as they are. */
  const here = (codes, place) => {
    const h = codes.map((k, i) => (i === place ? new Float32Array(width) : shown[k]));
    const rest = mixOut(windowOf(h, place));
    return added.map((own) => paint(relu(rest.map((v, j) => v + own[j]))).map(sigmoid));
  };
  return { encode, logits, decode: (codes) => logits(codes).map(sigmoid), here };
}

/** -log p(x|z) of independent pixels, from their logits. */
const surprise = (x, logits) => logits.reduce((sum, l, i) =>
  sum + Math.max(l, 0) + Math.log1p(Math.exp(-Math.abs(l))) - x[i] * l, 0);

/** Where an image changed: the squares in one patch, and in all. */
function changed(before, after, place) {
  const squares = PIXEL.map((pixels) =>
    pixels.reduce((sum, i) => sum + (after[i] - before[i]) ** 2, 0));
  return { own: squares[place], all: squares.reduce((a, b) => a + b) };
}

/** The use of a model's codes: counts, their order, the rank of each code. */
function useOf(counts) {
  const order = [...counts.keys()].sort((a, b) => counts[b] - counts[a] || a - b);
  const ranks = new Array(CODES);
  order.forEach((code, i) => { ranks[code] = i; });
  return { counts, order, ranks, used: counts.filter((n) => n > 0).length };
}

/* ---- pictures ---------------------------------------------------------------------- */

/** Lines between the patches, and a frame around the places near the chosen one. */
function drawPatches(pen, w, inks, place, colour, inner) {
  const unit = w / GRID, row = Math.floor(place / GRID), column = place % GRID;
  pen.globalAlpha = 0.5;
  for (let k = 1; k < GRID; k++) {
    stroke(pen, inks.line, 1, [[k * unit, 0], [k * unit, w]]);
    stroke(pen, inks.line, 1, [[0, k * unit], [w, k * unit]]);
  }
  pen.globalAlpha = 1;
  const frame = (reach, ink, width) => {
    const [left, top] = [column, row].map((v) => Math.max(v - reach, 0) * unit);
    const [right, bottom] = [column, row].map((v) => Math.min(v + reach + 1, GRID) * unit);
    pen.strokeStyle = ink;
    pen.lineWidth = width;
    pen.strokeRect(left + 1.5, top + 1.5, right - left - 3, bottom - top - 3);
  };
  frame(1, colour, 2);
  if (inner) frame(0, inks.latent, 3);
}

/** The integers, each on the patch that it draws; swapped ones in bold. */
function drawTokens(canvas, inks, paint, now, place) {
  const { pen, w } = begin(canvas), unit = w / GRID;
  pen.globalAlpha = 0.3;
  paint(pen, now.decoded, 0, 0, w);
  pen.globalAlpha = 1;
  drawPatches(pen, w, inks, place, inks.line, true);
  now.codes.forEach((code, i) => {
    const swapped = code !== now.encoded[i];
    pen.fillStyle = inks.ink;
    write(pen, String(code), (i % GRID + 0.5) * unit, (Math.floor(i / GRID) + 0.5) * unit + 4, {
      align: "center", size: clamp(unit / 3.4, 10, 14), weight: swapped ? 800 : 400,
      halo: swapped ? inks.paper : undefined,
    });
  });
}

/** A patch for each code, in the order of use; dead ones struck out. */
function drawPalette(canvas, inks, paint, patches, { order, counts }, now, chosen) {
  const { pen, w } = begin(canvas), unit = w / COLUMNS, wide = COLUMNS * PATCH;
  const image = new Float32Array(wide * wide), at = (i) => [i % COLUMNS, Math.floor(i / COLUMNS)];
  order.forEach((code, i) => {
    const [column, row] = at(i);
    for (let s = 0; s < SPOTS; s++) {
      const pixel = (row * PATCH + Math.floor(s / PATCH)) * wide + column * PATCH + (s % PATCH);
      image[pixel] = patches[code][s];
    }
  });
  paint(pen, image, 0, 0, w);
  for (let k = 0; k <= COLUMNS; k++) {
    stroke(pen, inks.paper, 2, [[k * unit, 0], [k * unit, w]]);
    stroke(pen, inks.paper, 2, [[0, k * unit], [w, k * unit]]);
  }
  const present = new Set(now.codes);
  order.forEach((code, i) => {
    const [left, top] = at(i).map((v) => v * unit);
    if (!counts[code]) {
      const corners = [[left + 4, top + unit - 4], [left + unit - 4, top + 4]];
      stroke(pen, inks.muted, 1, corners);
    }
    if (!present.has(code)) return;
    pen.strokeStyle = inks.latent;
    pen.lineWidth = code === chosen ? 4 : 1.5;
    pen.strokeRect(left + 1, top + 1, unit - 2, unit - 2);
  });
}

/** Counts by rank, one bar a code; a line for those of the other model. */
function drawUse(canvas, inks, use, other, now, chosen) {
  const { pen, w, h } = begin(canvas), box = { left: 34, right: w - 4, top: 8, bottom: h - 20 };
  const top = Math.log10(Math.max(use.counts[use.order[0]], other.counts[other.order[0]])) + 0.1;
  const unit = (box.right - box.left) / CODES, X = (i) => box.left + i * unit;
  const Y = (n) => box.bottom - (n > 0 ? (Math.log10(n) + 0.3) / (top + 0.3) : 0)
    * (box.bottom - box.top);
  pen.fillStyle = inks.muted;
  for (const [n, text] of [[1, "1"], [100, "100"], [10000, "10⁴"]]) {
    stroke(pen, inks.line, 1, [[box.left, Y(n)], [box.right, Y(n)]]);
    write(pen, text, box.left - 5, Y(n) + 4, { align: "right", size: 11 });
  }
  for (const i of [1, 64, 128, 192, 256]) {
    write(pen, String(i), X(i - 0.5), h - 5, { align: i === 256 ? "right" : "center", size: 11 });
  }
  const present = new Set(now.codes);
  use.order.forEach((code, i) => {
    pen.globalAlpha = present.has(code) ? 1 : 0.45;
    pen.fillStyle = present.has(code) ? inks.latent : inks.muted;
    pen.fillRect(X(i), Y(use.counts[code]), Math.max(unit - 0.4, 1),
      box.bottom - Y(use.counts[code]));
  });
  pen.globalAlpha = 1;
  stroke(pen, inks.ink, 1.25, other.order.map((code, i) => [X(i + 0.5), Y(other.counts[code])]),
    [4, 3]);
  const mark = X(use.ranks[chosen] + 0.5);
  stroke(pen, inks.latent, 3, [[mark, box.bottom + 1], [mark, box.bottom + 8]]);
  const dead = CODES - use.used;
  if (dead > 40) {
    pen.fillStyle = inks.ink;
    write(pen, `${dead} dead codes`, X(use.used + dead / 2), box.bottom - 10,
      { align: "center", size: 13, weight: 600, halo: inks.soft });
  }
}

/** Decoded grids in one row, or in two where it is narrow. */
function drawGrids(canvas, paint, images) {
  const { pen, w, h } = begin(canvas), across = w > 6 * h ? DRAWS : DRAWS / 2;
  const size = w / across;
  images.forEach((image, k) =>
    paint(pen, image, (k % across) * size + 1, Math.floor(k / across) * size + 1, size - 2));
}

/* ---- words ------------------------------------------------------------------------- */

const percent = (x) => `${fixed(100 * x, 0)} %`;
const number = (n) => n.toLocaleString("en");

function verdict(s, now, use, total) {
  const code = now.codes[s.place], n = use.counts[code];
  const where = `row ${Math.floor(s.place / GRID) + 1}, column ${(s.place % GRID) + 1}`;
  const how = n ? `${fixed(100 * n / total, 1)} % of all tokens`
    : "a dead code: no token of any digit";
  const digit = `This digit has ${now.distinct} different codes, and −log p(x|z) = `
    + `${fixed(now.surprise, 0)} nats.`;
  if (!now.change) return `Code ${code} at ${where}: ${how}. ${digit}`;
  if (now.change.all < 1e-4) return `Code ${code} at ${where}: nothing to see changes. ${digit}`;
  return `Code ${code} in place of ${now.encoded[s.place]} at ${where}: `
    + `${percent(now.change.own / now.change.all)} of the squared change is in its own patch, the `
    + `rest in the patches around it, nothing elsewhere. ${digit}`;
}

function evidence({ models, train, test }, samples) {
  const { off, on } = models, each = (values) => values.map((v) => fixed(v, 0)).join(", ");
  const shares = (values) => values.map(percent).join(", ");
  return "Two VQ-VAEs of one recipe, from one start U(±1/256) with the codebook loss, "
    + `as many steps on ${number(train)} digits; the weights of this page are rounded to 8 `
    + `bits. Codes used by these digits, ${on.shares.length} seeds: ${shares(off.shares)} without, `
    + `${shares(on.shares)} with restarts; perplexity ${each(off.perplexities)} and `
    + `${each(on.perplexities)}. The page has the first seed. Distortion and rate: `
    + `${number(test)} test digits; the learned prior is a gated PixelCNN over the codes, of which `
    + `the page has ${samples} drawn grids, not the weights. With restarts the code alone explains `
    + `${percent(on.explained)} of the variance of what is drawn at its place, the neighbours the `
    + `rest; of the squared change by a random swap ${percent(on.own)} is in its own patch `
    + `(without: ${percent(off.explained)} and ${percent(off.own)}).`;
}

/* ---- the explorer ------------------------------------------------------------------ */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "codebook", label: "Codebook explorer", markup: MARKUP,
  });
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());
  const nets = {}, uses = {}, total = facts.train * PLACES;
  for (const which of ["on", "off"]) {
    nets[which] = vqvae(arrays, which);
    uses[which] = useOf(arrays[`${which}.counts`]);
  }
  const which = () => (s.restarts ? "on" : "off"), other = () => (s.restarts ? "off" : "on");
  const digits = facts.labels.map((_, i) =>
    Float32Array.from(arrays.digits.subarray(PIXELS * i, PIXELS * (i + 1)), (v) => v / 255));
  const page = pad();
  let own = null; // a drawn digit stands in for the chosen one
  const image = () => (own?.digit === s.digit ? own.x : digits[s.digit]);

  let last = { x: null };
  const encoded = () => {
    const x = image(), name = which();
    if (last.x !== x || last.name !== name) last = { x, name, codes: nets[name].encode(x) };
    return last.codes;
  };
  const numbers = () => {
    const net = nets[which()], found = encoded(), codes = s.codes ?? found;
    const logits = net.logits(codes), decoded = logits.map(sigmoid), { place } = s;
    const undone = codes.map((k, i) => (i === place ? found[i] : k));
    const swapped = codes[place] !== found[place];
    return {
      encoded: found, codes, decoded, surprise: surprise(image(), logits),
      distinct: new Set(codes).size,
      change: swapped ? changed(net.decode(undone), decoded, place) : null,
    };
  };
  const average = (name) => {
    const flat = arrays[`${name}.average`];
    return Array.from({ length: CODES }, (_, k) =>
      Float32Array.from(flat.subarray(k * SPOTS, (k + 1) * SPOTS), (v) => v / 255));
  };
  const averages = { on: average("on"), off: average("off") };
  let strips = { key: "" };
  const sampled = () => {
    const key = [which(), s.seed].join();
    if (strips.key === key) return strips;
    const next = uniforms(s.seed), net = nets[which()], drawn = arrays[`${which()}.samples`];
    const sets = drawn.shape[0] / DRAWS, first = (s.seed % sets) * DRAWS;
    const make = (grid) => Array.from({ length: DRAWS }, (_, k) => net.decode(grid(k)));
    const uniform = make(() => Array.from({ length: PLACES }, () => Math.floor(next() * CODES)));
    const prior = make((k) =>
      [...drawn.subarray((first + k) * PLACES, (first + k + 1) * PLACES)]);
    strips = { key, uniform, prior };
    return strips;
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const about = (code) => {
    const n = uses[which()].counts[code];
    return `Code ${code}: ${n ? `${number(n)} tokens` : "dead"}`;
  };
  let pointed = -1;
  const report = (now) => {
    const said = facts.models[which()], use = uses[which()], code = now.codes[s.place];
    inputs[which()].checked = true;
    inputs[s.look].checked = true;
    if (own?.digit !== s.digit) inputs.class.value = facts.labels[s.digit];
    inputs.rank.value = use.ranks[code] + 1;
    inputs.rank.setAttribute("aria-valuetext", `code ${code}, place ${use.ranks[code] + 1} by use`);
    const says = {
      rank: `code ${code}`, used: String(use.used), perplexity: fixed(said.perplexity, 0),
      distortion: fixed(said.distortion, 1), rate: fixed(said.learned_rate, 0),
      uniform: fixed(PLACES * Math.log(CODES), 0), hover: about(pointed < 0 ? code : pointed),
      other: `restarts ${other()}`,
    };
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    buttons.undo.disabled = !s.codes;
    speak(verdict(s, now, use, total));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "encoder", "latent", "decoder", "paper", "soft"], () => redraw());
  const paint = painter(inks), paintPalette = painter(inks, COLUMNS * PATCH);
  const draw = () => {
    const now = numbers(), use = uses[which()], code = now.codes[s.place];
    report(now);
    for (const [name, x, colour] of [["x", image(), inks.encoder],
      ["decoded", now.decoded, inks.decoder]]) {
      const { pen, w } = begin(canvases[name]);
      paint(pen, x, 0, 0, w);
      drawPatches(pen, w, inks, s.place, colour, name === "decoded");
    }
    drawTokens(canvases.codes, inks, paint, now, s.place);
    const patches = s.look === "here" ? nets[which()].here(now.codes, s.place)
      : averages[which()];
    drawPalette(canvases.palette, inks, paintPalette, patches, use, now, code);
    drawUse(canvases.use, inks, use, uses[other()], now, code);
    const { uniform, prior } = sampled();
    drawGrids(canvases.uniform, paint, uniform);
    drawGrids(canvases.prior, paint, prior);
  };
  const redraw = perFrame(draw);

  /* controls */
  const swap = (code) => {
    const codes = [...(s.codes ?? encoded())];
    codes[s.place] = code;
    change({ codes: codes.every((k, i) => k === encoded()[i]) ? null : codes });
  };
  const choose = (digit) => {
    own = null;
    page.clear();
    change({ digit, codes: null });
  };
  for (const name of ["on", "off"]) {
    on(inputs[name], "change", () => change({ restarts: name === "on", codes: null }));
  }
  for (const look of ["here", "average"]) on(inputs[look], "change", () => change({ look }));
  on(inputs.class, "change", () => choose(facts.labels.indexOf(+inputs.class.value)));
  on(inputs.rank, "input", () => swap(uses[which()].order[inputs.rank.value - 1]));
  const acts = {
    next: () => {
      const alike = facts.labels.flatMap((v, i) => (v === +inputs.class.value ? [i] : []));
      choose(alike[(alike.indexOf(s.digit) + 1) % alike.length]);
    },
    clear: () => {
      page.clear();
      own = { digit: s.digit, x: new Float32Array(PIXELS) };
      change({ codes: null });
    },
    undo: () => change({ codes: null }),
    draw: () => change({ seed: s.seed + 1 }),
  };
  for (const [name, act] of Object.entries(acts)) {
    on(buttons[name], "click", () => {
      act();
      tell();
    });
  }
  on(buttons.reset, "click", () => {
    own = null;
    page.clear();
    reset();
  });
  on(root, "change", tell);

  const cell = (event, canvas, columns) => {
    const { left, top, width } = canvas.getBoundingClientRect(), unit = width / columns;
    const at = [event.clientX - left, event.clientY - top].map((v) => Math.floor(v / unit));
    const [column, row] = at.map((v) => clamp(v, 0, columns - 1));
    return row * columns + column;
  };
  for (const name of ["codes", "decoded"]) { // a click, so that a finger can scroll the page
    on(canvases[name], "click", (event) => {
      change({ place: cell(event, canvases[name], GRID) });
      tell();
    });
  }
  on(canvases.palette, "click", (event) => {
    swap(uses[which()].order[cell(event, canvases.palette, COLUMNS)]);
    tell();
  });
  const point = (code) => {
    pointed = code;
    redraw();
  };
  on(canvases.palette, "pointermove", (event) =>
    point(uses[which()].order[cell(event, canvases.palette, COLUMNS)]));
  on(canvases.palette, "pointerleave", () => point(-1));
  const step = (at, [right, up], columns) => {
    const column = clamp(at % columns + right, 0, columns - 1);
    return clamp(Math.floor(at / columns) - up, 0, columns - 1) * columns + column;
  };
  arrows(canvases.codes, (steps) => {
    change({ place: step(s.place, steps, GRID) });
    tell();
  });
  arrows(canvases.palette, (steps) => {
    const { order, ranks } = uses[which()], code = (s.codes ?? encoded())[s.place];
    swap(order[step(ranks[code], steps, COLUMNS)]);
    tell();
  });
  const ink = (to, from) => {
    page.stroke(to, from);
    own = { digit: s.digit, x: page.asDrawn() };
    change({ codes: null });
  };
  drag(canvases.x, {
    down(spot) {
      if (own?.digit !== s.digit) page.clear();
      ink(spot, spot);
    },
    move: ink,
    up() {
      own = { digit: s.digit, x: page.asMnist() };
      change({ codes: null });
      tell();
    },
  });

  /* begin */
  inputs.class.innerHTML = [...Array(10).keys()].map((d) => `<option>${d}</option>`).join("");
  outputs.notice.textContent = model.get("notice");
  outputs.tokens.textContent = `${number(total)} tokens of ${number(facts.train)} digits`;
  outputs.evidence.textContent = evidence(facts, arrays["on.samples"].shape[0]);
  read();
  draw();
  root.explorer = { // for tests and the console
    change, draw, numbers, state: () => s, encode: (x) => nets[which()].encode(x),
    decode: (codes) => nets[which()].decode(codes), sampled,
    here: (codes, place) => nets[which()].here(codes, place),
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
