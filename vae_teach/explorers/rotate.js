// The rotate explorer: another basis of the latents, the same p(x), another MIG.

import { painter } from "./digits.js";
import {
  begin, build, clamp, ellipse, fixed, on, perFrame, slider, speaker, stateOf, stroke, theme,
  unpack, write,
} from "./shared.js";
import { decoderOf, heat, listed, paintRow, topTwo } from "./sprites.js";

const NAMES = ["angle", "plane"];
const BINS = 20, FRAMES = 7, REACH = 2.4, DOTS = 900;

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <label>Turn <select data-in="plane"></select></label>
  <button type="button" data-do="reset">Reset</button>
</div>
<div class="vx-dial">
  ${slider("angle", "Angle", { min: 0, max: 90, step: 1 })}
  <div class="vx-ticks" aria-hidden="true"><span style="left:0">0°<em>as trained</em></span>
    <span style="left:50%">45°<em>both mixed</em></span>
    <span style="left:100%">90°<em>exchanged</em></span></div>
</div>
<div class="vx-columns">
  <div class="vx-left">
    <figure><figcaption>Codes of sprites, and the turned axes</figcaption>
      <canvas class="vx-codes" data-canvas="codes" role="img"
        aria-label="Mean codes of sprites in the plane of the two latents, coloured by a factor,
          with the prior's circles and the two turned axes"></canvas>
      <p class="vx-one" data-out="colours"></p></figure>
  </div>
  <div class="vx-right">
    <figure><figcaption>Along each turned latent, from −2 to 2</figcaption>
      <canvas class="vx-along" data-canvas="along" role="img"
        aria-label="Two rows of decoded sprites: along the first turned latent, and along the
          second"></canvas></figure>
    <figure><figcaption>Samples of the trained model</figcaption>
      <canvas class="vx-samples" data-canvas="trained" role="img"
        aria-label="Draws of the prior, decoded by the trained model"></canvas></figure>
    <figure><figcaption>Samples of the turned model <small>the same draws z</small></figcaption>
      <canvas class="vx-samples" data-canvas="turned" role="img"
        aria-label="The same draws, decoded by the turned model"></canvas></figure>
  </div>
</div>
<dl class="vx-readouts">
  <div><dt>MIG</dt><dd><b data-out="mig"></b> <span data-out="straight"></span></dd></div>
  <div><dt>ELBO, turned q</dt>
    <dd><b data-out="elbo"></b> <span data-out="elbo_change"></span></dd></div>
  <div><dt>ELBO, diagonal q</dt>
    <dd><b data-out="diagonal"></b> <span data-out="diagonal_change"></span></dd></div>
  <div><dt>Pixels, if z turns too</dt><dd><b data-out="back"></b> change at most</dd></div>
</dl>
<div class="vx-columns">
  <figure class="vx-left"><figcaption>At every angle</figcaption>
    <canvas class="vx-angles" data-canvas="angles" role="img"
      aria-label="MIG against the angle, above; the ELBO with the turned posterior and with a
        diagonal one, below"></canvas></figure>
  <figure class="vx-right"><figcaption>What each latent knows: I(z; v)/H(v)</figcaption>
    <table class="vx-heat"><thead data-part="head"></thead><tbody data-part="body"></tbody></table>
  </figure>
</div>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- information, as disentanglement.py estimates it -------------------------------- */

/** The entropy of counts in nats, with Miller's correction. */
function entropyOf(counts, n) {
  let plain = 0, occupied = 0;
  for (const c of counts) {
    if (!c) continue;
    plain -= c / n * Math.log(c / n);
    occupied++;
  }
  return plain + (occupied - 1) / (2 * n);
}

/** Each number's place among BINS equally wide ones. */
function binned(z) {
  let low = Infinity, high = -Infinity;
  for (const v of z) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const width = (high - low) / BINS;
  return Uint8Array.from(z, (v) => clamp(Math.floor((v - low) / width), 0, BINS - 1));
}

/** I(z; v) in nats of one latent and every factor. */
function information(z, columns, entropies) {
  const n = z.length, cut = binned(z), bins = new Uint32Array(BINS);
  for (const b of cut) bins[b]++;
  const own = entropyOf(bins, n);
  return columns.map((v, k) => {
    const joint = new Uint32Array(BINS * 64);
    for (let i = 0; i < n; i++) joint[cut[i] * 64 + v[i]]++;
    return Math.max(own + entropies[k] - entropyOf(joint, n), 0);
  });
}

/** The factors of all sprites, a column each, and their entropies. */
function factorsOf({ factors }) {
  const [n, count] = factors.shape;
  const columns = Array.from({ length: count }, (_, k) =>
    Uint8Array.from({ length: n }, (_, i) => factors[i * count + k]));
  const entropies = columns.map((v) => {
    const counts = new Uint32Array(64);
    for (const value of v) counts[value]++;
    return entropyOf(counts, n);
  });
  return { columns, entropies };
}

/** The two latents of a plane, turned by an angle in degrees. */
function turned([a, b], degrees) {
  const cos = Math.cos(degrees * Math.PI / 180), sin = Math.sin(degrees * Math.PI / 180);
  const first = new Float64Array(a.length), second = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) {
    first[i] = cos * a[i] + sin * b[i];
    second[i] = cos * b[i] - sin * a[i];
  }
  return [first, second];
}

/** All that the page knows of the code in one plane, by the angle; each found once. */
function planeOf({ latents }, arrays, facts, { columns, entropies }) {
  const [n, count] = arrays.codes.shape;
  const pair = latents.map((j) => Float64Array.from({ length: n }, (_, i) =>
    arrays.codes[i * count + facts.carried.indexOf(j)]));
  const others = facts.information.filter((_, j) => !latents.includes(j));
  const found = new Map();
  return {
    pair,
    at(angle) {
      if (found.has(angle)) return found.get(angle);
      const two = turned(pair, angle).map((z) => information(z, columns, entropies));
      const gaps = entropies.map((h, k) => {
        const { first, second } = topTwo([...two, ...others].map((row) => row[k]));
        return (first - second) / h;
      });
      const mig = gaps.reduce((sum, g) => sum + g, 0) / gaps.length;
      const share = (row) => row.map((v, k) => v / entropies[k]);
      const rest = entropies.map((_, k) => Math.max(...others.map((row) => row[k])));
      found.set(angle, { two: two.map(share), rest: share(rest), gaps, mig });
      return found.get(angle);
    },
  };
}

/** R⁻¹ z: what the decoder is given for z of the turned model. */
function turnedBack(z, [i, j], degrees) {
  const cos = Math.cos(degrees * Math.PI / 180), sin = Math.sin(degrees * Math.PI / 180);
  const back = Float64Array.from(z);
  back[i] = cos * z[i] - sin * z[j];
  back[j] = sin * z[i] + cos * z[j];
  return back;
}

/* ---- pictures ----------------------------------------------------------------------- */

/** Codes as dots, coloured by a factor; the prior's circles; the turned axes. */
function drawCodes(canvas, inks, [a, b], values, top, angle) {
  const { pen, w } = begin(canvas), middle = w / 2, unit = w / 2 / 3.3;
  pen.strokeStyle = inks.line;
  pen.lineWidth = 1;
  for (const r of [1, 2, 3]) {
    ellipse(pen, middle, middle, r * unit);
    pen.stroke();
  }
  for (let i = 0; i < Math.min(a.length, DOTS); i++) {
    pen.fillStyle = values[i] / top < 1 / 3 ? inks.encoder
      : values[i] / top < 2 / 3 ? inks.muted : inks.decoder;
    pen.globalAlpha = 0.55;
    ellipse(pen, middle + a[i] * unit, middle - b[i] * unit, 1.7);
    pen.fill();
  }
  pen.globalAlpha = 1;
  [0, 90].forEach((more, k) => {
    const turn = (angle + more) * Math.PI / 180;
    const x = Math.cos(turn) * REACH * unit, y = -Math.sin(turn) * REACH * unit;
    stroke(pen, inks.soft, 6, [[middle - x, middle - y], [middle + x, middle + y]]);
    stroke(pen, inks.latent, 3, [[middle - x, middle - y], [middle + x, middle + y]]);
    pen.fillStyle = inks.ink;
    const style = { align: "center", size: 14, weight: 700, halo: inks.soft };
    write(pen, String(k + 1), middle + 1.14 * x, middle + 1.14 * y + 5, style);
  });
}

/** MIG above, ELBO below, each against the angle. */
function drawAngles(canvas, inks, plane, { turned: whole, diagonal }, angle) {
  const { pen, w, h } = begin(canvas), left = 44, right = w - 10, middle = (h - 20) / 2;
  const X = (d) => left + d / 90 * (right - left);
  const migs = Array.from({ length: 31 }, (_, k) => plane.at(3 * k).mig);
  const most = 1.15 * Math.max(...migs);
  const worst = Math.min(...diagonal, ...whole), best = Math.max(...whole, ...diagonal);
  const room = Math.max(0.3 * (best - worst), 0.25);
  const panels = [
    { name: "MIG", top: 8, bottom: middle - 8, low: 0, high: most, digits: 2,
      marks: [0, Math.max(...migs)], lines: [[inks.data, migs, plane.at(angle).mig]] },
    { name: "ELBO, nats", top: middle + 10, bottom: h - 20, low: worst - room, high: best + room,
      digits: 1, marks: worst < best - 0.5 ? [worst, best] : [best],
      lines: [[inks.latent, diagonal, diagonal[angle], [5, 4]],
        [inks.encoder, whole, whole[angle]]] },
  ];
  for (const { name, top, bottom, low, high, digits, marks, lines } of panels) {
    const Y = (v) => bottom - (v - low) / (high - low) * (bottom - top);
    for (const v of marks) {
      stroke(pen, inks.line, 1, [[left, Y(v)], [right, Y(v)]]);
      pen.fillStyle = inks.muted;
      write(pen, fixed(v, digits), left - 5, Y(v) + 4, { align: "right", size: 11 });
    }
    for (const [ink, values, now, dash] of lines) {
      const step = 90 / (values.length - 1);
      stroke(pen, ink, 2.4, values.map((v, k) => [X(step * k), Y(v)]), dash);
      pen.fillStyle = ink;
      ellipse(pen, X(angle), Y(now), 5);
      pen.fill();
    }
    stroke(pen, inks.accent, 1, [[X(angle), top], [X(angle), bottom]]);
    pen.fillStyle = inks.ink;
    write(pen, name, left + 6, top + 11, { size: 11.5, weight: 600, halo: inks.paper });
  }
  for (const [k, [name, ink]] of [["turned q", "encoder"], ["diagonal q", "latent"]].entries()) {
    pen.fillStyle = inks[ink];
    const style = { align: "right", size: 11.5, weight: 600, halo: inks.paper };
    write(pen, name, right - 64 * k, middle + 21, style);
  }
  pen.fillStyle = inks.muted;
  for (const d of [0, 45, 90]) {
    const align = { 0: "left", 45: "center", 90: "right" }[d];
    write(pen, `${d}°`, X(d), h - 4, { align, size: 11 });
  }
}

/* ---- words -------------------------------------------------------------------------- */

function verdict({ angle }, plane, { turned: whole, diagonal }, names) {
  const straight = plane.at(0), now = plane.at(angle);
  const moved = now.two.map((row) => names.filter((_, k) => row[k] > 0.15));
  const does = ["first", "second"].map((word, k) =>
    `the ${word} latent knows of ${listed(moved[k], "no factor")}`).join(", ");
  if (!angle) return `As trained: ${does}. Turn it.`;
  const lost = whole[angle] - diagonal[angle];
  const price = lost < 0.1
    ? "A posterior with independent latents loses next to nothing: here training has no reason "
      + "to prefer one basis."
    : `Only a posterior with independent latents loses, ${fixed(lost)} nats: the family of q, `
      + "and neither p(x) nor p(z), prefers a basis.";
  return `At ${angle}° ${does}. MIG ${fixed(straight.mig)} became ${fixed(now.mig)}, the ELBO `
    + `changed by ${fixed(whole[angle] - whole[0])} nats. ${price}`;
}

const evidence = ({ beta, seed, ...facts }, { codes }) => `A β-VAE of sprites, β = ${beta}, the `
  + `best by MIG of ${facts.seeds} seeds (${seed}) of the benchmark of the chapter. Codes, mutual `
  + `information and MIG: means of q of all ${codes.shape[0].toLocaleString("en")} sprites, in `
  + `${BINS} bins, less the bias; standard error of the MIG about ${fixed(facts.mig_error, 3)}. `
  + `ELBO: ${facts.elbo_sprites} sprites that were not trained on, ${facts.draws} draws each, the `
  + "decoder as rounded here. “Turned q” is R q(z|x), of covariance R Σ Rᵀ; “diagonal q” the "
  + "nearest posterior to it with independent latents.";

/* ---- the explorer ------------------------------------------------------------------- */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "rotate", label: "Rotate explorer", markup: MARKUP,
  });
  const decode = decoderOf(arrays, "decoder"), all = factorsOf(arrays);
  const planes = facts.planes.map((plane) => planeOf(plane, arrays, facts, all));
  const size = facts.information.length;
  const draws = Array.from({ length: arrays.draws.shape[0] }, (_, i) =>
    arrays.draws.slice(i * size, (i + 1) * size));
  const trained = draws.map(decode);
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());

  /** All pictures at this angle. */
  const pictures = () => {
    const { latents } = facts.planes[s.plane];
    const back = (z) => decode(turnedBack(z, latents, s.angle));
    const along = latents.map((j) => Array.from({ length: FRAMES }, (_, f) => {
      const z = new Float64Array(size);
      z[j] = 4 * f / (FRAMES - 1) - 2;
      return back(z);
    }));
    const same = draws.slice(0, 4).map((z) => back(turnedBack(z, latents, -s.angle)));
    const gap = Math.max(...same.map((x, i) => x.reduce((most, v, p) =>
      Math.max(most, Math.abs(v - trained[i][p])), 0)));
    return { along, turned: draws.map(back), gap };
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const cells = fillTable(root, facts);
  const report = (plane, now, gap) => {
    const { turned: whole, diagonal, latents, names } = facts.planes[s.plane];
    inputs.angle.value = s.angle;
    inputs.angle.setAttribute("aria-valuetext", `${s.angle} degrees`);
    inputs.plane.value = s.plane;
    const since = (values) => `${fixed(values[s.angle] - whole[0])} nats`;
    const says = {
      angle: `${s.angle}°`, mig: fixed(now.mig), straight: `${fixed(plane.at(0).mig)} at 0°`,
      elbo: fixed(whole[s.angle], 1), elbo_change: since(whole),
      diagonal: fixed(diagonal[s.angle], 1), diagonal_change: since(diagonal),
      back: fixed(gap, 3),
      colours: `Colour: ${names[0]}, in thirds. Axes: the turned latents.`,
    };
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    [...now.two, now.rest].forEach((row, k) => heat(cells.rows[k], row));
    cells.heads.forEach((head, k) => {
      head.textContent = s.angle ? `turned ${k + 1}` : `z${latents[k] + 1}`;
    });
    heat(cells.gaps, now.gaps);
    speak(verdict(s, plane, facts.planes[s.plane], facts.factors));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "accent", "data", "latent", "decoder", "encoder", "soft", "paper"],
    () => redraw());
  const paint = painter(inks, facts.side);
  const draw = () => {
    const plane = planes[s.plane], now = plane.at(s.angle);
    const { along, turned: shown, gap } = pictures();
    report(plane, now, gap);
    const { colour } = facts.planes[s.plane], shades = all.columns[colour];
    drawCodes(canvases.codes, inks, plane.pair, shades, facts.sizes[colour] - 1, s.angle);
    paintRow(begin(canvases.along), paint, along.flat(), 0, FRAMES);
    paintRow(begin(canvases.trained), paint, trained, 0, draws.length / 2);
    paintRow(begin(canvases.turned), paint, shown, 0, draws.length / 2);
    drawAngles(canvases.angles, inks, plane, facts.planes[s.plane], s.angle);
  };
  const redraw = perFrame(draw);

  /* controls */
  inputs.plane.innerHTML = facts.planes.map(({ title }, k) =>
    `<option value="${k}">${title}</option>`).join("");
  for (const name of NAMES) {
    on(inputs[name], "input", () => change({ [name]: +inputs[name].value }));
  }
  on(buttons.reset, "click", reset);
  on(root, "change", tell);

  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = evidence(facts, arrays);
  read();
  draw();
  root.explorer = { // for tests and the console
    change, draw, decode, pictures, state: () => s,
    numbers: () => planes[s.plane].at(s.angle), entropies: all.entropies,
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

/** Rows of the table of information: the two turned latents, the others, the gap. */
function fillTable(root, { factors }) {
  const names = ["", "", "most of the others", "gap of the top two"];
  root.querySelector("[data-part=head]").innerHTML =
    `<tr><td></td>${factors.map((v) => `<th scope="col">${v}</th>`).join("")}</tr>`;
  const body = root.querySelector("[data-part=body]");
  body.innerHTML = names.map((name) =>
    `<tr><th scope="row">${name}</th>${factors.map(() => "<td></td>").join("")}</tr>`).join("");
  const rows = [...body.rows].map((row) => [...row.querySelectorAll("td")]);
  const heads = [...body.rows].slice(0, 2).map((row) => row.cells[0]);
  return { rows: rows.slice(0, 3), gaps: rows[3], heads };
}

export default { render };
