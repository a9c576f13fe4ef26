// The interpolate explorer: three paths between two latents, decoded as they go.

import { painter } from "./digits.js";
import {
  begin, build, fixed, lerp, mlp, on, perFrame, sigmoid, slider, speaker, stateOf, stroke,
  theme, unpack, write,
} from "./shared.js";

const NAMES = ["latents", "ends", "first", "last", "t"];
const LATENTS = [2, 20, 128];
const PATHS = ["linear", "spherical", "shortest"];
const LAST = 32; // the positions of t are 0 to LAST; 33 points are decoded on each path
const FRAMES = 9; // of them in a strip
const LOG_TAU = Math.log(2 * Math.PI);

const row = (path) => `<tr><th scope="row"><span class="vx-path-${path}">${path}</span></th>
  ${["norm", "density", "judge", "length"].map((what) =>
    `<td data-out="${path}-${what}"></td>`).join("")}</tr>`;
const strip = (path) => `<figure>
  <figcaption><span class="vx-path-${path}">${path}</span></figcaption>
  <canvas class="vx-nine" data-canvas="${path}" role="img"
    aria-label="Decoded digits along the ${path} path"></canvas></figure>`;

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-row vx-choices">
  <fieldset class="vx-row"><legend>Latents</legend>
    ${LATENTS.map((d) => `<label><input type="radio" name="latents" value="${d}"
      data-in="latents-${d}"> ${d}</label>`).join("")}
  </fieldset>
  <fieldset class="vx-row"><legend>Ends</legend>
    <label><input type="radio" name="ends" value="digits" data-in="digits"> encoded digits</label>
    <label><input type="radio" name="ends" value="prior" data-in="prior"> draws of N(0, I)</label>
  </fieldset>
  <button type="button" data-do="reset">Reset</button>
</div>
<div class="vx-row">
  <label>from <select data-in="first"></select></label>
  <label>to <select data-in="last"></select></label>
</div>
${slider("t", "t", { min: 0, max: 1, step: 1 / LAST })}
<div class="vx-three">
  ${PATHS.map((path) => `<figure><figcaption><span class="vx-path-${path}">${path}</span>
    </figcaption><canvas class="vx-digit" data-canvas="${path}-now" role="img"
      aria-label="Decoded from the ${path} path at t"></canvas></figure>`).join("")}
</div>
<div class="vx-scroll"><table>
  <thead><tr><td></td><th scope="col">norm of z</th><th scope="col">log p(z), nats</th>
    <th scope="col">judge reads</th><th scope="col">length decoded</th></tr></thead>
  <tbody>${PATHS.map(row).join("")}</tbody>
</table></div>
<div class="vx-foot"><p class="vx-note" aria-live="polite"></p></div>
<div class="vx-plots">
  <figure><figcaption>Norm of z <small>band: 95 % of N(0, I)</small></figcaption>
    <canvas class="vx-plot" data-canvas="norm" role="img"
      aria-label="Norm along the three paths against the shell of the prior"></canvas></figure>
  <figure><figcaption>log p(z) <small>band: 95 % of N(0, I)</small></figcaption>
    <canvas class="vx-plot" data-canvas="density" role="img"
      aria-label="Log density of the prior along the three paths"></canvas></figure>
  <figure><figcaption>Judge's certainty</figcaption>
    <canvas class="vx-plot" data-canvas="judge" role="img"
      aria-label="The largest of the judge's ten probabilities along the three paths"></canvas>
  </figure>
</div>
${PATHS.map(strip).join("")}
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- paths ------------------------------------------------------------------------- */

const norm = (z) => Math.hypot(...z);
const blend = (a, b, v, w) => Float32Array.from(a, (x, k) => v * x + w * b[k]);
const linear = (a, b) => (t) => blend(a, b, 1 - t, t);

/** [sin((1 - t) Ω) a + sin(t Ω) b] / sin Ω; the straight line where the ends are parallel. */
function spherical(a, b) {
  const size = [norm(a), norm(b)], u = blend(a, a, 1 / size[0], 0), v = blend(b, b, 1 / size[1], 0);
  const apart = norm(blend(u, v, 1, -1)), together = norm(blend(u, v, 1, 1));
  const angle = 2 * Math.atan2(apart, together), sine = Math.sin(angle);
  if (sine < 1e-6) return linear(a, b);
  return (t) => blend(a, b, Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine);
}

/** Through points at equal times, straight between them. */
function through(points) {
  const pieces = points.length - 1;
  return (t) => {
    const k = Math.min(Math.floor(t * pieces), pieces - 1), u = t * pieces - k;
    return blend(points[k], points[k + 1], 1 - u, u);
  };
}

/** The place of the pair i < j among all pairs of n, in the order of two loops. */
const placeOf = (i, j, n) => i * n - i * (i + 1) / 2 + j - i - 1;

/** Ends, paths and verdicts of the VAE with d latents. */
function world(arrays, { models }, d) {
  const network = mlp(arrays, `${d}.decoder`), decode = (z) => network(z).map(sigmoid);
  const shell = models[d].shell;
  const logP = (z) => -0.5 * norm(z) ** 2 - d / 2 * LOG_TAU;
  const pointsOf = (ends) => Array.from({ length: arrays[`${d}.${ends}`].shape[0] }, (_, i) =>
    arrays[`${d}.${ends}`].slice(i * d, (i + 1) * d));
  /** The inner points of the shortest path of a pair, and its own ends. */
  const shortest = (ends, points, low, high) => {
    const inner = arrays[`${d}.${ends}.inner`], n = points.length;
    const each = inner.length / d / (n * (n - 1) / 2), from = each * placeOf(low, high, n);
    const middle = Array.from({ length: each }, (_, k) =>
      inner.slice((from + k) * d, (from + k + 1) * d));
    return [points[low], ...middle, points[high]];
  };
  /** All that is known of the paths from one end to another, at all positions of t. */
  const between = (ends, first, last) => {
    const points = pointsOf(ends), [a, b] = [points[first], points[last]];
    const [low, high] = [Math.min(first, last), Math.max(first, last)];
    const known = shortest(ends, points, low, high), back = first > last;
    const curves = [linear(a, b), spherical(a, b), through(back ? known.reverse() : known)];
    const pair = placeOf(low, high, points.length);
    return Object.fromEntries(PATHS.map((path, k) => {
      const z = Array.from({ length: LAST + 1 }, (_, i) => curves[k](i / LAST));
      const images = z.map(decode), start = (pair * PATHS.length + k) * (LAST + 1);
      const verdict = (name) => {
        const found = [...arrays[`${d}.${ends}.${name}`].subarray(start, start + LAST + 1)];
        return back ? found.reverse() : found;
      };
      return [path, {
        z, images, norm: z.map(norm), density: z.map(logP), digit: verdict("digit"),
        judge: verdict("certainty").map((v) => v / 255), length: lengthOf(images),
      }];
    }));
  };
  const band = { norm: [shell[0], shell[2]], density: [shell[2], shell[0]].map((r) => logP([r])) };
  return { between, decode, band, chord: (images) => distance(images[0], images.at(-1)) };
}

const distance = (x, y) => Math.sqrt(x.reduce((sum, v, i) => sum + (v - y[i]) ** 2, 0));
const lengthOf = (images) =>
  images.slice(1).reduce((sum, image, k) => sum + distance(image, images[k]), 0);

/* ---- pictures ---------------------------------------------------------------------- */

const STYLES = {
  linear: { ink: "encoder", dash: [] },
  spherical: { ink: "latent", dash: [7, 4] },
  shortest: { ink: "decoder", dash: [2, 3] },
};

/** One quantity along the three paths, its band, and where t is. */
function drawPlot(canvas, inks, now, what, { band, range, marks = [] }, i) {
  const { pen, w, h } = begin(canvas), box = { left: 36, right: w - 8, top: 14, bottom: h - 18 };
  const [low, high] = range, X = (u) => lerp(box.left, box.right, u);
  const Y = (v) => lerp(box.bottom, box.top, (v - low) / (high - low));
  if (band) {
    pen.fillStyle = inks.data;
    pen.globalAlpha = 0.16;
    pen.fillRect(box.left, Y(band[1]), box.right - box.left, Y(band[0]) - Y(band[1]));
    pen.globalAlpha = 1;
  }
  pen.fillStyle = inks.muted;
  for (const v of ticksOf(low, high)) {
    stroke(pen, inks.line, 1, [[box.left, Y(v)], [box.right, Y(v)]]);
    const text = fixed(v, high - low > 3 ? 0 : 1);
    write(pen, text, box.left - 5, Y(v) + 4, { align: "right", size: 11 });
  }
  for (const u of [0, 0.5, 1]) write(pen, `${u}`, X(u), h - 4, { align: "center", size: 11 });
  stroke(pen, inks.muted, 1, [[X(i / LAST), box.top], [X(i / LAST), box.bottom]], [3, 3]);
  pen.save();
  pen.beginPath();
  pen.rect(box.left - 5, 0, w - box.left + 5, box.bottom + 5);
  pen.clip();
  for (const path of PATHS) {
    const values = now[path][what], { ink, dash } = STYLES[path];
    stroke(pen, inks[ink], 2.2, values.map((v, k) => [X(k / LAST), Y(v)]), dash);
    pen.fillStyle = inks[ink];
    pen.beginPath();
    pen.arc(X(i / LAST), Y(values[i]), 4, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.restore();
  pen.fillStyle = inks.ink;
  const style = { align: "center", size: 15, weight: 700 };
  marks.forEach((v, k) => write(pen, "×", X(k), Y(v) + 5, style));
  const [least, most] = [Math.min, Math.max].map((f) => f(...now.shortest[what]));
  if (most <= high && least >= low) return;
  pen.fillStyle = inks.decoder;
  const text = most > high ? `↑ to ${fixed(most, 0)}` : `↓ to ${fixed(least, 0)}`;
  const y = most > high ? 11 : box.bottom - 5;
  const bold = { align: "center", halo: inks.soft, weight: 700 };
  write(pen, text, (box.left + box.right) / 2, y, bold);
}

/** About four round numbers from low to high. */
function ticksOf(low, high) {
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) =>
    (first + k) * step);
}

function rangeOf(all, floor) {
  const low = floor ?? Math.min(...all), high = Math.max(...all), room = 0.06 * (high - low);
  return [floor ?? low - room, high + room];
}

function drawStrip(canvas, inks, paint, images, i) {
  const { pen, w } = begin(canvas), size = w / FRAMES, each = LAST / (FRAMES - 1);
  for (let k = 0; k < FRAMES; k++) paint(pen, images[k * each], k * size + 1, 1, size - 2);
  pen.strokeStyle = inks.accent;
  pen.lineWidth = 3;
  pen.strokeRect(i / each * size + 1.5, 1.5, size - 3, size - 3);
}

/* ---- words ------------------------------------------------------------------------- */

const number = (x) => x.toLocaleString("en");
const percent = (x) => `${fixed(100 * x, 0)} %`;

/** Where the norm of a path's middle is, in words. */
function place(value, [low, high]) {
  return value < low ? "below the shell" : value > high ? "outside it" : "in the shell";
}

function verdict(s, { now, i, band, chord }, { models, pairs: many }) {
  const { shell, noisy, all, pairs } = models[s.latents], middle = LAST / 2;
  const radius = (path, k) => now[path].norm[k], digits = s.ends === "digits";
  const start = radius("linear", 0), end = radius("linear", LAST), half = radius("linear", middle);
  const far = Math.max(...now.shortest.norm);
  const reads = PATHS.map((path) => `${now[path].digit[i]} at ${percent(now[path].judge[i])}`);
  let text = `At t = ${fixed(i / LAST)} the judge reads ${reads.join(", ")}. Draws of `
    + `N(0, I) have norms from ${fixed(shell[0], 1)} to ${fixed(shell[2], 1)}. The ends have `
    + `${fixed(start, 1)} and ${fixed(end, 1)}`;
  if (digits && start < shell[0]) {
    text += `, below that from the start: they are means of q(z|x). A draw of q(z|x) would have `
      + `${fixed(noisy[s.first], 1)} (×)`;
  }
  text += `; the straight middle has ${fixed(half, 1)}, ${place(half, band.norm)}, where the `
    + `density is ${now.linear.density[middle] > band.density[1] ? "above that of nearly every draw"
      : "ordinary"}. `;
  text += `The shortest path is ${fixed(now.shortest.length, 1)} long, the straight one `
    + `${fixed(now.linear.length, 1)}, a cross-fade of the end images ${fixed(chord, 1)}`;
  text += far > 1.5 * Math.max(shell[2], start, end)
    ? `; it goes out to norm ${fixed(far, 1)}, where the prior never samples, `
      + `${percent(pairs[s.ends].unused)} of it in unused latents.` : ".";
  const of = all[digits ? "mean" : "prior"].sure;
  return `${text} Of ${number(many)} such pairs the judge is sure of `
    + `${percent(of[1])} of the straight middles, ${percent(of[2])} of the spherical ones.`;
}

/** What was measured of the VAE that is shown, and how. */
function evidence(latents, facts) {
  const { models, tests, pairs: many, examples, epochs, sure, rounding, free } = facts;
  const { used, all, pairs } = models[latents], { digits, prior } = pairs;
  const inside = (name, k) => percent(all[name].inside[k]);
  const worst = Math.max(...Object.values(rounding).map(Math.abs));
  return `Three VAEs of one recipe: ${number(examples)} digits, ${epochs} epochs, one seed; `
    + `rounding the decoders costs at most ${fixed(worst)} nats. With ${latents} latents, ${used} `
    + `of them in use, the shell has ${inside("mean", 0)} of the means of q(z|x) of `
    + `${number(tests)} test digits, ${inside("draw", 0)} of draws of q(z|x) and `
    + `${inside("prior", 0)} of draws of N(0, I); of the straight middles of ${number(many)} pairs `
    + `of each ${inside("mean", 1)}, ${inside("draw", 1)} and ${inside("prior", 1)}. Between draws `
    + `of q(z|x) the judge is sure of ${percent(all.draw.sure[1])} of the straight and `
    + `${percent(all.draw.sure[2])} of the spherical middles; of the middles of all pairs of `
    + `digits on this page of ${digits.sure.map(percent).join(", ")}, linear, spherical, shortest. `
    + (digits.unused ? `Of the squared norm of the shortest paths ${percent(digits.unused)}, `
      + `between draws of N(0, I) ${percent(prior.unused)}, is in unused latents. ` : "")
    + `Sure: one digit above ${percent(sure)}. Shortest: a local minimum of the change of the `
    + "decoded image, from the straight path, found beforehand at a few points and straight "
    + `between them, ${latents > free
      ? `free in the ${free} directions that the decoder sees most, straight across the others`
      : "free in all directions"}; lengths over ${LAST + 1} points.`;
}

/* ---- the explorer ------------------------------------------------------------------ */

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "interpolate", label: "Interpolate explorer", markup: MARKUP,
  });
  const worlds = {}, worldOf = (d) => worlds[d] ??= world(arrays, facts, d);
  const { s, change, tell, reset, stop: unlisten } = stateOf(model, NAMES, () => redraw());

  let kept = { key: "" };
  const numbers = () => {
    const { latents, ends, first, last } = s, key = [latents, ends, first, last].join();
    if (kept.key !== key) {
      const { between, band, chord } = worldOf(latents), now = between(ends, first, last);
      kept = { key, now, band, chord: chord(now.linear.images) };
    }
    return { ...kept, i: Math.round(s.t * LAST) };
  };

  /* read-outs */
  const speak = speaker(root.querySelector(".vx-note"));
  const names = (ends) => (ends === "digits" ? facts.classes.map((c) => `digit ${c}`)
    : ["one", "two", "three", "four"].map((word) => `draw ${word}`));
  let listed = "";
  const list = () => {
    if (listed === s.ends) return;
    listed = s.ends;
    for (const name of ["first", "last"]) {
      inputs[name].innerHTML = names(s.ends).map((text, k) =>
        `<option value="${k}">${text}</option>`).join("");
    }
  };
  const report = (all) => {
    const { now, i } = all;
    list();
    inputs[`latents-${s.latents}`].checked = true;
    inputs[s.ends].checked = true;
    for (const name of ["first", "last"]) inputs[name].value = s[name];
    inputs.t.value = i / LAST;
    outputs.t.value = fixed(i / LAST);
    outputs.evidence.textContent = evidence(s.latents, facts);
    for (const path of PATHS) {
      const one = now[path];
      const says = {
        norm: fixed(one.norm[i]), density: fixed(one.density[i], 1), length: fixed(one.length),
        judge: `${one.digit[i]} at ${percent(one.judge[i])}`,
      };
      for (const [what, text] of Object.entries(says)) {
        outputs[`${path}-${what}`].textContent = text;
      }
    }
    speak(verdict(s, all, facts));
  };

  /* drawing */
  const { inks, read, stop } = theme(root,
    ["ink", "muted", "line", "accent", "data", "encoder", "latent", "decoder", "soft"],
    () => redraw());
  const paint = painter(inks);
  const draw = () => {
    const all = numbers(), { now, i, band } = all;
    report(all);
    // The shortest path may go far away: the axes are those of the other two.
    const of = (what) => ["linear", "spherical"].flatMap((path) => now[path][what]);
    const { noisy } = facts.models[s.latents];
    const marks = s.ends === "digits" ? [noisy[s.first], noisy[s.last]] : [];
    drawPlot(canvases.norm, inks, now, "norm",
      { band: band.norm, range: rangeOf([...of("norm"), ...band.norm, ...marks], 0), marks }, i);
    drawPlot(canvases.density, inks, now, "density",
      { band: band.density, range: rangeOf([...of("density"), ...band.density]) }, i);
    drawPlot(canvases.judge, inks, now, "judge", { range: [0, 1.02] }, i);
    for (const path of PATHS) {
      const { images } = now[path];
      drawStrip(canvases[path], inks, paint, images, i);
      const { pen, w } = begin(canvases[`${path}-now`]);
      paint(pen, images[i], 0, 0, w);
    }
  };
  const redraw = perFrame(draw);

  /* controls */
  for (const d of LATENTS) on(inputs[`latents-${d}`], "change", () => change({ latents: d }));
  for (const ends of ["digits", "prior"]) {
    on(inputs[ends], "change", () => change({ ends, first: 0, last: 1 }));
  }
  /** An end that the other has already: they change places. */
  const choose = (name, other) => {
    const end = +inputs[name].value;
    change(end === s[other] ? { [name]: end, [other]: s[name] } : { [name]: end });
  };
  on(inputs.first, "change", () => choose("first", "last"));
  on(inputs.last, "change", () => choose("last", "first"));
  on(inputs.t, "input", () => change({ t: +inputs.t.value }));
  on(buttons.reset, "click", reset);
  on(root, "change", tell);

  outputs.notice.textContent = model.get("notice");
  read();
  draw();
  root.explorer = {
    change, draw, numbers, state: () => s, decode: (d, z) => worldOf(d).decode(z),
  };
  return () => {
    stop();
    redraw.cancel();
    unlisten();
  };
}

export default { render };
