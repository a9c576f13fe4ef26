// The traverse explorer: a slider for each latent, and the factor that it moves.

import { painter } from "./digits.js";
import {
  begin, build, clamp, fixed, on, perFrame, slider, speaker, stateOf, stroke, theme, unpack, write,
} from "./shared.js";
import { decoderOf, heat, listed, paintRow, topTwo } from "./sprites.js";

const LATENTS = 8, REACH = 3, FRAMES = 9;
const SEEDS = ["best", "median"], NAMES = ["beta", "seed", "start", "z", "latent"];
const MOVES = 0.1; // a latent that knows less of every factor is said to move none

const row = (j, factors) => `<tr><th scope="row">
  ${slider(`z${j}`, `z<sub>${j + 1}</sub>`, { min: -REACH, max: REACH, step: 0.05 })}</th>
  <td class="vx-kl-nats"></td>${factors.map(() => "<td></td>").join("")}
  <td class="vx-moves"></td></tr>`;

const markup = ({ factors, betas }) => `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Seed</legend>
    <label><input type="radio" name="seed" value="best" data-in="best">
      <span>best MIG <span data-out="best_mig"></span></span></label>
    <label><input type="radio" name="seed" value="median" data-in="median">
      <span>median MIG <span data-out="median_mig"></span></span></label>
  </fieldset>
  <button type="button" data-do="reset">Reset</button>
</div>
<div class="vx-dial">
  ${slider("beta", "β", { min: 0, max: betas.length - 1, step: 1 })}
  <div class="vx-ticks" aria-hidden="true">${betas.map((beta, k) =>
    `<span style="left:${100 * k / (betas.length - 1)}%">${beta}</span>`).join("")}</div>
</div>
<div class="vx-columns vx-sprite-columns">
  <figure class="vx-left"><figcaption>Decoded from z</figcaption>
    <canvas class="vx-large" data-canvas="decoded" role="img"
      aria-label="The sprite that the decoder makes of the latents below"></canvas></figure>
  <div class="vx-right">
    <figure><figcaption>Begin from the code of</figcaption>
      <div class="vx-starts"></div></figure>
    <figure><figcaption>Along <span data-out="chosen"></span>, from −${REACH} to ${REACH},
      the others held</figcaption>
      <canvas class="vx-frames" data-canvas="strip" role="img"
        aria-label="Nine decoded sprites along the chosen latent, with a mark where it is"></canvas>
    </figure>
    <dl class="vx-readouts">
      <div><dt>MIG</dt><dd><b data-out="mig"></b></dd></div>
      <div><dt>Moved by one latent</dt>
        <dd><b data-out="owned"></b> of ${factors.length} factors</dd></div>
      <div><dt>KL</dt><dd><b data-out="rate"></b> nats</dd></div>
      <div><dt>Distortion</dt><dd><b data-out="distortion"></b> nats</dd></div>
    </dl>
    <div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
  </div>
</div>
<table class="vx-heat vx-latents">
  <caption>Latents by their KL, and what each knows of each factor: I(z; v)/H(v)</caption>
  <thead><tr><td></td><th scope="col">KL</th>${factors.map((v) =>
    `<th scope="col">${v}</th>`).join("")}<th scope="col">moves</th></tr></thead>
  <tbody>${Array.from({ length: LATENTS }, (_, j) => row(j, factors)).join("")}</tbody>
</table>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- what a model's latents know ----------------------------------------------------- */

/** The latent that moves a factor by itself, for each factor; null where there is none. */
function owners(known) {
  return known[0].map((_, k) => {
    const { first, second, place } = topTwo(known.map((row) => row[k]));
    return first > 0.5 && first >= 2 * second ? place : null;
  });
}

/** The factors that a latent knows most of, or none. */
function movedBy(row, names) {
  const most = Math.max(...row);
  return most < MOVES ? [] : names.filter((_, k) => row[k] >= Math.max(MOVES, most / 2));
}

function verdict(s, facts, { known, owner }) {
  const { factors } = facts, alone = factors.filter((_, k) => owner[k] !== null);
  const rest = factors.filter((_, k) => owner[k] === null);
  const moved = movedBy(known[s.latent], factors);
  const does = moved.length ? `moves ${listed(moved)}` : "moves nothing that has a name";
  return `At β = ${s.beta}, ${s.seed} seed: ${alone.length
    ? `${listed(alone)} ${alone.length > 1 ? "are each" : "is"} moved by one latent`
    : "no factor is moved by one latent alone"}${rest.length && alone.length
    ? `; ${listed(rest)} ${rest.length > 1 ? "are" : "is"} not` : ""}. z${s.latent + 1} ${does}.`;
}

const evidence = (facts) => `β-VAEs of sprites from the benchmark of the chapter, ${facts.seeds} `
  + "seeds at each β; best and median by the MIG, at each β by itself. This page runs their "
  + "decoders, rounded to 8 bits, without the pixels that no sprite reaches; the distortion is "
  + `that of the rounded decoder. KL and distortion: ${facts.test} sprites that were not trained `
  + `on. Mutual information and MIG: means of q of all ${facts.sprites.toLocaleString("en")} `
  + "sprites in 20 bins, less the bias. One latent moves a factor where the largest share is "
  + "above 0.5 and twice the second.";

/* ---- pictures ------------------------------------------------------------------------- */

/** The frames along a latent, and a mark at its value. */
function drawStrip(canvas, inks, paint, frames, value) {
  const area = begin(canvas), { pen, w } = area, size = w / FRAMES;
  paintRow(area, paint, frames, 0);
  const x = size / 2 + (clamp(value, -REACH, REACH) + REACH) / (2 * REACH) * (w - size);
  stroke(pen, inks.line, 2, [[size / 2, size + 12], [w - size / 2, size + 12]]);
  stroke(pen, inks.latent, 4, [[x, size + 5], [x, size + 19]]);
  pen.fillStyle = inks.muted;
  for (const v of [-REACH, 0, REACH]) {
    const at = size / 2 + (v + REACH) / (2 * REACH) * (w - size);
    write(pen, fixed(v, 0), at, size + 32, { align: "center", size: 11 });
  }
}

/* ---- the explorer --------------------------------------------------------------------- */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "traverse", label: "Traverse explorer", markup: markup(facts),
  });
  const { models, factors, side } = facts, pixels = side * side, betas = facts.betas;
  const decoders = models.map((_, k) => decoderOf(arrays, `decoder${k}`));
  const sprites = Array.from({ length: arrays.sprites.shape[0] }, (_, i) =>
    Float32Array.from(arrays.sprites.subarray(i * pixels, (i + 1) * pixels), (v) => v / 255));
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());

  const place = (beta = s.beta, seed = s.seed) =>
    models.findIndex((one) => one.beta === beta && one.seed === seed);
  const begun = () => {
    if (!s.start) return new Float32Array(LATENTS);
    const at = (place() * sprites.length + s.start - 1) * LATENTS;
    return arrays.codes.subarray(at, at + LATENTS);
  };
  const code = () => s.z ?? [...begun()];
  const numbers = () => {
    const one = models[place()];
    return { ...one, owner: owners(one.known) };
  };

  /* the table and the starts */
  const rows = [...root.querySelector(".vx-latents").tBodies[0].rows].map((tr) => {
    const [nats, ...rest] = tr.querySelectorAll("td");
    return { tr, nats, cells: rest.slice(0, -1), moves: rest.at(-1) };
  });
  const starts = root.querySelector(".vx-starts");
  const faces = sprites.map((_, k) => [`sprite ${k + 1}`,
    `<canvas aria-hidden="true" aria-label="sprite ${k + 1}"></canvas>`]);
  starts.innerHTML = [["the mean of the prior", "z = 0"], ...faces].map(([label, face]) =>
    `<button type="button" aria-label="${label}">${face}</button>`).join("");

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const report = (now, z) => {
    inputs[s.seed].checked = true;
    inputs.beta.value = betas.indexOf(s.beta);
    inputs.beta.setAttribute("aria-valuetext", String(s.beta));
    const says = {
      beta: `β = ${s.beta}`, mig: fixed(now.mig),
      rate: fixed(now.rates.reduce((a, b) => a + b), 1),
      distortion: fixed(now.distortion, 1), chosen: `z${s.latent + 1}`,
      owned: String(now.owner.filter((j) => j !== null).length),
    };
    for (const seed of SEEDS) says[`${seed}_mig`] = fixed(models[place(s.beta, seed)].mig);
    rows.forEach(({ tr, nats, cells, moves }, j) => {
      inputs[`z${j}`].value = z[j];
      says[`z${j}`] = fixed(z[j]);
      tr.classList.toggle("vx-chosen", j === s.latent);
      nats.textContent = fixed(now.rates[j]);
      heat(cells, now.known[j]);
      cells.forEach((cell, k) => cell.classList.toggle("vx-owner", now.owner[k] === j));
      moves.textContent = listed(movedBy(now.known[j], factors), "–");
    });
    for (const [name, text] of Object.entries(says)) outputs[name].textContent = text;
    [...starts.children].forEach((button, k) =>
      button.setAttribute("aria-pressed", String(k === s.start)));
    speak(verdict(s, facts, now));
  };

  /* drawing */
  const { inks, read, stop } = theme(root, ["ink", "muted", "line", "latent", "soft"],
    () => redraw());
  const paint = painter(inks, side);
  const draw = () => {
    const z = code(), decode = decoders[place()];
    report(numbers(), z);
    paintRow(begin(canvases.decoded), paint, [decode(z)], 0);
    const frames = Array.from({ length: FRAMES }, (_, f) =>
      decode(z.map((v, j) => (j === s.latent ? REACH * (2 * f / (FRAMES - 1) - 1) : v))));
    drawStrip(canvases.strip, inks, paint, frames, z[s.latent]);
    starts.querySelectorAll("canvas").forEach((canvas, k) =>
      paintRow(begin(canvas), paint, [sprites[k]], 0));
  };
  const redraw = perFrame(draw);

  /* controls */
  for (const seed of SEEDS) on(inputs[seed], "change", () => change({ seed, z: null }));
  on(inputs.beta, "input", () => change({ beta: betas[+inputs.beta.value], z: null }));
  rows.forEach((_, j) => {
    const input = inputs[`z${j}`];
    on(input, "focus", () => change({ latent: j }));
    on(input, "input", () =>
      change({ latent: j, z: code().map((v, k) => (k === j ? +input.value : v)) }));
  });
  [...starts.children].forEach((button, k) => on(button, "click", () => {
    change({ start: k, z: null });
    tell();
  }));
  on(buttons.reset, "click", reset);
  on(root, "change", tell);

  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = evidence(facts);
  read();
  draw();
  root.explorer = { // for tests and the console
    change, draw, numbers, state: () => s, code, decode: (z) => decoders[place()](z),
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
