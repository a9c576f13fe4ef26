// The latent explorer: one VAE with two latents for every beta, run here both ways.

import { PIXELS, SIDE, pad, painter } from "./digits.js";
import {
  arrows, begin, build, clamp, drag, ellipse, fixed, lerp, on, perFrame, slider, speaker,
  theme, unpack, write,
} from "./shared.js";
import { between, normal, rateOf, surprise, vae } from "./vae.js";

const FRAMES = 9; // decoded digits along the interpolation
const TILES = 13; // decoded digits along a side of the map
const TICKS = [[0, "0 autoencoder"], [0.1, "0.1"], [0.3, "0.3"], [1, "1 VAE"], [4, "4"],
  [16, "16"], [64, "64"]];

const MARKUP = `
<p class="vx-notice" data-out="notice"></p>
<div class="vx-dial">
  ${slider("t", "β, the weight of the rate", { min: 0, max: 1, step: 0.0025 })}
  <div class="vx-ticks" aria-hidden="true"></div>
</div>
<dl class="vx-readouts">
  <div><dt>Rate</dt><dd><b data-out="rate"></b> nats</dd></div>
  <div><dt>Distortion</dt><dd><b data-out="distortion"></b> nats</dd></div>
  <div><dt>ELBO</dt><dd><b data-out="elbo"></b> nats</dd></div>
  <div><dt>Active units</dt><dd><b data-out="active"></b> of 2</dd></div>
</dl>
<div class="vx-columns">
  <div class="vx-left">
    <fieldset class="vx-row"><legend>Latent plane of</legend>
      <label><input type="radio" name="map" data-in="digits" checked> encoded digits</label>
      <label><input type="radio" name="map" data-in="tiles"> decoded points</label>
    </fieldset>
    <canvas class="vx-map" data-canvas="map" tabindex="0" role="application"
      aria-label="The latent plane with encoded test digits. Arrow keys move the point z;
        so do the two sliders below."></canvas>
    <div class="vx-pair">
      ${slider("z0", "z₁", { min: -4, max: 4, step: 0.01 })}
      ${slider("z1", "z₂", { min: -4, max: 4, step: 0.01 })}
    </div>
    <div class="vx-row">
      <button type="button" data-do="mean">Encode x</button>
      <button type="button" data-do="sample">Sample q(z|x)</button>
      <button type="button" data-do="prior">Sample p(z)</button>
    </div>
  </div>
  <div class="vx-right">
    <div class="vx-pair">
      <figure><figcaption>Digit x <small>draw on it</small></figcaption>
        <canvas class="vx-digit vx-pad" data-canvas="x" role="img"
          aria-label="The chosen digit x; draw your own with mouse or finger"></canvas>
      </figure>
      <figure><figcaption>Decoded <small>from z</small></figcaption>
        <canvas class="vx-digit" data-canvas="decoded" role="img"
          aria-label="The mean of p(x|z) at the point z"></canvas>
      </figure>
    </div>
    <div class="vx-row">
      <label>Class <select data-in="class"></select></label>
      <button type="button" data-do="next">Next digit</button>
      <button type="button" data-do="clear">Clear</button>
    </div>
    <p class="vx-one" data-out="one"></p>
    <figure><figcaption>Rate and distortion <small>2,000 test digits</small></figcaption>
      <canvas class="vx-curve" data-canvas="curve" role="img"
        aria-label="Distortion against rate for all β; the read-outs say the same"></canvas>
    </figure>
  </div>
</div>
<div class="vx-path">
  <fieldset class="vx-row"><legend>Interpolate</legend>
    <button type="button" data-do="from">Start at x</button>
    <button type="button" data-do="to">End at x</button>
    <label><input type="radio" name="path" data-in="linear" checked> linear</label>
    <label><input type="radio" name="path" data-in="spherical"> spherical</label>
  </fieldset>
  <canvas class="vx-strip" data-canvas="strip" role="img"
    aria-label="The first digit, ${FRAMES} decoded digits between, the last digit"></canvas>
  ${slider("u", "Position on the path", { min: 0, max: 1, step: 0.01, className: "vx-between" })}
</div>
<div class="vx-foot">
  <p class="vx-note" aria-live="polite"></p>
  <button type="button" data-do="reset">Reset</button>
</div>
<p class="vx-evidence" data-out="evidence"></p>`;

/* ---- pictures --------------------------------------------------------------------- */

/** The decoded points of the map, a few a frame. */
function mosaic(paint, decode) {
  const sheet = new OffscreenCanvas(TILES * SIDE, TILES * SIDE), pen = sheet.getContext("2d");
  let key = "", done = 0;
  return {
    sheet,
    advance(now, extent, budget = 6) {
      if (now !== key) [key, done] = [now, 0];
      const stop = performance.now() + budget;
      for (; done < TILES * TILES && performance.now() < stop; done++) {
        const column = done % TILES, row = Math.floor(done / TILES);
        const at = (k) => (2 * (k + 0.5) / TILES - 1) * extent;
        paint(pen, decode([at(column), -at(row)]), column * SIDE, row * SIDE, SIDE);
      }
      return done === TILES * TILES;
    },
  };
}

function drawPlane({ pen, w }, inks, place) {
  pen.strokeStyle = inks.line;
  pen.lineWidth = 1.25;
  for (const r of [1, 2, 3]) {
    ellipse(pen, w / 2, w / 2, r * place.unit);
    pen.stroke();
  }
}

function drawNames({ pen, w }, inks) {
  pen.fillStyle = inks.muted;
  write(pen, "z₁", w - 20, w / 2 + 4, { halo: inks.soft });
  write(pen, "z₂", w / 2 - 6, 16, { halo: inks.soft });
  write(pen, "circles: the prior at 1, 2, 3 sd", 8, w - 9, { size: 11, halo: inks.soft });
}

/** Every shown digit: its posterior at 1 sd, and its class where the mean is. */
function drawCodes({ pen }, hues, place, codes, labels) {
  const spread = codes.reduce((sum, { sd }) => sum + sd[0] + sd[1], 0) / codes.length;
  pen.globalAlpha = clamp(0.04 / spread, 0.025, 0.1); // wide clouds overlap: paint thinner
  codes.forEach(({ mean, sd }, i) => {
    pen.fillStyle = hues[labels[i]];
    ellipse(pen, place.x(mean[0]), place.y(mean[1]), sd[0] * place.unit, sd[1] * place.unit);
    pen.fill();
  });
  pen.globalAlpha = 1;
  codes.forEach(({ mean }, i) => {
    pen.fillStyle = hues[labels[i]];
    write(pen, labels[i], place.x(mean[0]), place.y(mean[1]) + 4, {
      align: "center", size: 11, weight: 600,
    });
  });
}

function drawHandle({ pen }, inks, place, z, q) {
  const [x, y] = [place.x(z[0]), place.y(z[1])];
  const halo = (stroke, width, path) => {
    path();
    pen.strokeStyle = stroke;
    pen.lineWidth = width;
    pen.stroke();
  };
  const cloud = () => ellipse(
    pen, place.x(q.mean[0]), place.y(q.mean[1]),
    2 * q.sd[0] * place.unit, 2 * q.sd[1] * place.unit,
  );
  halo(inks.paper, 4, cloud);
  halo(inks.ink, 2, cloud);
  const ring = () => ellipse(pen, x, y, 10);
  halo(inks.paper, 7, ring);
  halo(inks.latent, 3.5, ring);
}

function drawPath({ pen }, inks, place, ends, spherical) {
  pen.strokeStyle = inks.muted;
  pen.setLineDash([5, 4]);
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (let k = 0; k <= 32; k++) {
    const z = between(...ends, k / 32, spherical);
    pen.lineTo(place.x(z[0]), place.y(z[1]));
  }
  pen.stroke();
  pen.setLineDash([]);
}

/** Distortion against rate for all beta, the separately trained VAEs, and where we are. */
function drawCurve(canvas, inks, { curve, separate }, now) {
  const { pen, w, h } = begin(canvas);
  const costs = curve.map((c) => c.distortion);
  const right = 4 * Math.ceil(Math.max(...curve.map((c) => c.rate)) / 4);
  const low = 20 * Math.floor(Math.min(...costs) / 20), high = Math.max(...costs) + 4;
  const box = { left: 32, top: 24, bottom: h - 32 };
  const X = (rate) => box.left + rate / right * (w - box.left - 8);
  const Y = (d) => box.bottom - (d - low) / (high - low) * (box.bottom - box.top);
  pen.fillStyle = inks.muted;
  pen.strokeStyle = inks.line;
  for (let d = low; d <= high; d += 20) {
    write(pen, `${d}`, box.left - 6, Y(d) + 4, { align: "right", size: 11 });
    pen.beginPath();
    pen.moveTo(box.left, Y(d));
    pen.lineTo(w, Y(d));
    pen.stroke();
  }
  for (let r = 0; r <= right; r += 4) {
    write(pen, `${r}`, X(r), box.bottom + 15, { align: "center", size: 11 });
  }
  write(pen, "rate →", w - 8, box.bottom + 29, { align: "right", size: 11 });
  write(pen, "distortion ↓ is better", 0, 11, { size: 11 });
  write(pen, "○ trained at one β", w - 4, 11, { align: "right", size: 11 });
  pen.strokeStyle = inks.latent;
  pen.lineWidth = 2.5;
  pen.beginPath();
  for (const c of curve) pen.lineTo(X(c.rate), Y(c.distortion));
  pen.stroke();
  pen.strokeStyle = inks.ink;
  pen.lineWidth = 1.25;
  for (const one of separate) {
    ellipse(pen, X(one.rate), Y(one.distortion), 3.5);
    pen.stroke();
  }
  ellipse(pen, X(now.rate), Y(now.distortion), 6.5);
  pen.fillStyle = inks.latent;
  pen.fill();
  pen.strokeStyle = inks.paper;
  pen.lineWidth = 2;
  pen.stroke();
}

/* ---- the explorer ----------------------------------------------------------------- */

function evidence({ agreement: a, rounding, separate }) {
  const span = `${separate[0].beta} to ${separate.at(-1).beta}`;
  return `One model serves every β. Against VAEs trained for one β alone, as long (β from `
    + `${span}, ${a.seeds} seeds each, test digits), its rate is off by at most `
    + `${fixed(a.rate)} nats (${fixed(a.rate_percent, 0)} %), its distortion by `
    + `${fixed(a.distortion)} nats (${fixed(a.distortion_percent)} %); its β-ELBO is between `
    + `${fixed(a.objective_better)} nats better and ${fixed(a.objective)} nats worse. `
    + `Rounding its weights costs at most ${fixed(rounding.elbo, 3)} nats. `
    + "At β = 0 nothing holds the rate.";
}

async function render({ model, el }) {
  const { facts, arrays } = await unpack(model);
  const label = "Latent explorer";
  const { root, inputs, outputs, canvases, buttons } = build(el, {
    name: "latent", label, markup: MARKUP,
  });
  const net = vae(arrays, facts.knots), labels = arrays.labels;
  const digits = Array.from(labels, (_, i) =>
    Float32Array.from(arrays.digits.subarray(PIXELS * i, PIXELS * (i + 1)), (v) => v / 255));
  const started = digits.map(net.start);
  const hueNames = [...Array(10).keys()].map((d) => `hue-${d}`);
  const inkNames = ["ink", "muted", "line", "latent", "paper", "soft", ...hueNames];

  const { beta_scale: unit, beta_top: top } = facts;
  const betaOf = (t) => unit * Math.expm1(t * Math.log1p(top / unit));
  const tOf = (beta) => Math.log1p(beta / unit) / Math.log1p(top / unit);
  const nth = (label, k) => {
    const all = [...labels.keys()].filter((i) => labels[i] === label);
    return all[k % all.length];
  };

  let s, codes, q, extent;
  const fresh = () => ({
    t: tOf(model.get("beta")), z: [0, 0], follow: true, chosen: nth(7, 2), turn: 2,
    from: nth(0, 1), to: nth(1, 1), u: 0.5,
  });
  const spherical = () => inputs.spherical.checked;
  const ends = () => [codes[s.from].mean, codes[s.to].mean];

  /** All that depends on beta: the weights, the codes, how far the map reaches. */
  const tune = () => {
    net.tune(s.t);
    codes = started.map(net.finish);
    const reach = codes.map(({ mean }) => Math.max(Math.abs(mean[0]), Math.abs(mean[1])));
    reach.sort((a, b) => a - b);
    extent = Math.max(3.3, 1.06 * reach[Math.floor(0.99 * reach.length)]);
    for (const name of ["z0", "z1"]) {
      inputs[name].min = -extent;
      inputs[name].max = extent;
    }
  };
  /** All that depends on the digit x. */
  const look = () => {
    q = net.encode(s.x);
    if (s.follow) s.z = [...q.mean];
  };
  const show = (x, chosen = -1) => {
    Object.assign(s, { x, chosen, follow: true });
    look();
  };
  const choose = (i) => {
    show(digits[i], i);
    inputs.class.value = labels[i];
  };
  const move = (z) => {
    s.z = z.map((v) => clamp(v, -extent, extent));
    s.follow = false;
  };
  const slide = () => move(between(...ends(), s.u, spherical()));

  /* drawing */
  const { inks, read, stop } = theme(root, inkNames, () => redraw());
  const hues = new Proxy({}, { get: (_, digit) => inks[`hue-${digit}`] });
  const paint = painter(inks), tiles = mosaic(paint, net.decode);
  let strip = { key: "" };

  const drawMap = () => {
    const sheet = begin(canvases.map), { pen, w } = sheet, unit = w / 2 / extent;
    const place = { unit, x: (z) => w / 2 + z * unit, y: (z) => w / 2 - z * unit };
    if (inputs.tiles.checked) {
      const complete = tiles.advance([s.t, inks.ink].join(), extent);
      pen.imageSmoothingEnabled = true;
      pen.drawImage(tiles.sheet, 0, 0, w, w);
      if (!complete) redraw();
    }
    drawPlane(sheet, inks, place);
    if (inputs.digits.checked) drawCodes(sheet, hues, place, codes, labels);
    drawNames(sheet, inks);
    drawPath(sheet, inks, place, ends(), spherical());
    drawHandle(sheet, inks, place, s.z, q);
  };
  const drawStrip = () => {
    const { pen, w } = begin(canvases.strip), pitch = w / (FRAMES + 2), size = pitch - 3;
    const key = [s.t, s.from, s.to, spherical()].join();
    if (key !== strip.key) {
      const frame = (_, k) => net.decode(between(...ends(), k / (FRAMES - 1), spherical()));
      strip = { key, frames: Array.from({ length: FRAMES }, frame) };
    }
    const all = [digits[s.from], ...strip.frames, digits[s.to]];
    all.forEach((x, k) => paint(pen, x, k * pitch + 1.5, 1.5, size));
    pen.strokeStyle = inks.latent;
    pen.lineWidth = 3;
    pen.strokeRect((1 + s.u * (FRAMES - 1)) * pitch + 1.5, 1.5, size, size);
  };
  const drawDigit = (canvas, x) => {
    const { pen, w } = begin(canvas);
    paint(pen, x, 0, 0, w);
  };

  /* read-outs */
  const measured = () => {
    const { curve } = facts, at = s.t * (curve.length - 1);
    const i = Math.min(Math.floor(at), curve.length - 2);
    const mix = (name) => lerp(curve[i][name], curve[i + 1][name], at - i);
    const { active } = curve[Math.round(at)];
    return { rate: mix("rate"), distortion: mix("distortion"), active };
  };
  const speak = speaker(root.querySelector(".vx-note"));
  const report = (now, decoded) => {
    const beta = fixed(betaOf(s.t));
    outputs.t.value = `β = ${beta}`;
    inputs.t.value = s.t;
    inputs.t.setAttribute("aria-valuetext", `beta ${beta}`);
    outputs.rate.textContent = fixed(now.rate, 1);
    outputs.distortion.textContent = fixed(now.distortion, 1);
    outputs.elbo.textContent = fixed(-now.rate - now.distortion, 1);
    outputs.active.textContent = now.active;
    s.z.forEach((v, k) => {
      inputs[`z${k}`].value = v;
      outputs[`z${k}`].value = fixed(v);
    });
    inputs.u.value = s.u;
    outputs.u.value = `${fixed(100 * s.u, 0)} %`;
    const [rate, cost] = [fixed(rateOf(q), 1), fixed(surprise(s.x, decoded), 1)];
    outputs.one.textContent = `This digit: rate ${rate}, −log p(x|z) ${cost} nats`;
    speak(`At β = ${beta} a test digit costs ${fixed(now.rate, 1)} nats of rate and `
      + `${fixed(now.distortion, 1)} of distortion; ${now.active} of 2 units are active. `
      + `q(z|x) of this digit: mean (${q.mean.map((v) => fixed(v)).join(", ")}), `
      + `sd (${q.sd.map((v) => fixed(v, 3)).join(", ")}).`);
  };
  const draw = () => {
    const now = measured(), decoded = net.decode(s.z);
    report(now, decoded);
    drawMap();
    drawCurve(canvases.curve, inks, facts, now);
    drawStrip();
    drawDigit(canvases.x, s.x);
    drawDigit(canvases.decoded, decoded);
  };
  const redraw = perFrame(draw);

  /* controls */
  const tell = () => {
    model.set("beta", betaOf(s.t));
    model.set("z", [...s.z]);
    model.save_changes();
  };
  const react = (node, type, act) => on(node, type, (event) => {
    act(event);
    redraw();
  });
  const retune = (t) => {
    s.t = t;
    tune();
    look();
    if (!s.follow) s.z = s.z.map((v) => clamp(v, -extent, extent));
  };
  react(inputs.t, "input", () => retune(+inputs.t.value));
  for (const k of [0, 1]) {
    const input = inputs[`z${k}`];
    react(input, "input", () => move(s.z.map((v, j) => (j === k ? +input.value : v))));
  }
  react(inputs.u, "input", () => {
    s.u = +inputs.u.value;
    slide();
  });
  for (const kind of ["linear", "spherical"]) react(inputs[kind], "change", slide);
  for (const kind of ["digits", "tiles"]) react(inputs[kind], "change", () => {});
  react(inputs.class, "change", () => {
    s.turn = 0;
    choose(nth(+inputs.class.value, 0));
  });
  react(buttons.next, "click", () => choose(nth(+inputs.class.value, ++s.turn)));
  react(buttons.mean, "click", () => {
    s.follow = true;
    look();
  });
  react(buttons.sample, "click", () => move(q.mean.map((m, k) => m + q.sd[k] * normal())));
  react(buttons.prior, "click", () => move([normal(), normal()]));
  const page = pad();
  react(buttons.clear, "click", () => {
    page.clear();
    show(new Float32Array(PIXELS));
  });
  for (const end of ["from", "to"]) {
    react(buttons[end], "click", () => {
      if (s.chosen >= 0) s[end] = s.chosen;
      else [s[end]] = keep(s.x);
      slide();
    });
  }
  /** A drawn digit can be an end of the path too: it joins the map. */
  const keep = (x) => {
    digits.push(x);
    started.push(net.start(x));
    codes.push(net.encode(x));
    return [digits.length - 1];
  };
  on(root, "change", tell);
  for (const name of ["mean", "sample", "prior"]) on(buttons[name], "click", tell);

  let pressed;
  const toZ = ([x, y]) => [(2 * x - 1) * extent, (1 - 2 * y) * extent];
  const dragTo = (spot) => {
    move(toZ(spot));
    redraw();
  };
  const chooseAt = (z) => {
    const far = codes.map(({ mean }) => Math.hypot(mean[0] - z[0], mean[1] - z[1]));
    const nearest = far.indexOf(Math.min(...far));
    if (far[nearest] < 0.03 * extent && nearest < labels.length) choose(nearest);
    redraw();
  };
  drag(canvases.map, {
    down: (spot) => dragTo(pressed = spot),
    move: dragTo,
    up(spot) { // a click chooses the digit under it
      const moved = Math.hypot(spot[0] - pressed[0], spot[1] - pressed[1]);
      if (moved < 0.01 && inputs.digits.checked) chooseAt(toZ(spot));
      tell();
    },
  });
  arrows(canvases.map, (step) => {
    move(s.z.map((v, k) => v + 0.02 * extent * step[k]));
    redraw();
    tell();
  });
  const ink = (to, from) => {
    page.stroke(to, from);
    show(page.asDrawn());
    redraw();
  };
  drag(canvases.x, {
    down(spot) {
      if (s.chosen >= 0) page.clear();
      ink(spot, spot);
    },
    move: ink,
    up() {
      show(page.asMnist());
      redraw();
      tell();
    },
  });

  const reset = () => {
    digits.length = started.length = labels.length;
    s = fresh();
    inputs.linear.checked = inputs.digits.checked = true;
    page.clear();
    tune();
    choose(s.chosen);
  };
  const initial = model.get("beta");
  react(buttons.reset, "click", () => {
    model.set("beta", initial);
    reset();
    tell();
  });
  // What the page sets comes back as an event too: only news is acted on.
  const newBeta = () => {
    const t = tOf(model.get("beta"));
    if (Math.abs(t - s.t) > 1e-9) retune(t);
    redraw();
  };
  const newPoint = () => {
    const z = model.get("z");
    if (z?.some((v, k) => Math.abs(v - s.z[k]) > 1e-9)) move(z);
    redraw();
  };
  model.on("change:beta", newBeta);
  model.on("change:z", newPoint);

  /* begin */
  inputs.class.innerHTML = [...Array(10).keys()].map((d) => `<option>${d}</option>`).join("");
  const ticks = root.querySelector(".vx-ticks");
  for (const [beta, text] of TICKS) {
    const [number, word] = text.split(" ");
    const tick = `<span style="left:${100 * tOf(beta)}%">${number}<em>${word ?? ""}</em></span>`;
    ticks.insertAdjacentHTML("beforeend", tick);
  }
  outputs.notice.textContent = model.get("notice");
  outputs.evidence.textContent = evidence(facts);
  reset();
  newPoint();
  read();
  draw();
  const code = (i) => ({ ...codes[i], extent });
  root.explorer = { ...net, draw, retune, move, code }; // for tests and the console
  return () => {
    stop();
    redraw.cancel();
    model.off("change:beta", newBeta);
    model.off("change:z", newPoint);
  };
}

export default { render };
