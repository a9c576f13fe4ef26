// What every explorer needs. No dependencies, no requests; an explorer's own module
// imports from here by name, and both are put into one module before they are shown.

/* ---- numbers ---------------------------------------------------------------------- */

export const lerp = (a, b, u) => a + (b - a) * u;
export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

/** A number for people: fixed digits, a true minus sign, and no minus zero. */
export function fixed(x, digits = 2) {
  const text = x.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
}

/* ---- data ------------------------------------------------------------------------- */

/** The part of anywidget's model that an explorer uses, for a page without a kernel. */
export function standIn(state) {
  return {
    get: (name) => state[name],
    set(name, value) { state[name] = value; },
    save_changes() {},
    on() {},
    off() {},
  };
}

/** The packed arrays: on the page already, or asked of the kernel. */
function payloadOf(model) {
  const here = model.get("payload");
  if (here) return Promise.resolve(here);
  return new Promise((resolve) => {
    const listen = (message, buffers) => {
      if (message.give !== "payload") return;
      model.off("msg:custom", listen);
      resolve(buffers[0]);
    };
    model.on("msg:custom", listen);
    model.send({ ask: "payload" });
  });
}

const KINDS = { int8: Int8Array, int16: Int16Array, uint8: Uint8Array, float32: Float32Array };

/** Inflate what payload.py packed: `facts`, and `arrays` by name, rounding undone. */
export async function unpack(model) {
  const inflate = new DecompressionStream("deflate");
  const stream = new Blob([await payloadOf(model)]).stream().pipeThrough(inflate);
  const buffer = await new Response(stream).arrayBuffer();
  const start = 4 + new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, start - 4));
  const header = JSON.parse(text), arrays = {};
  for (const { name, kind, shape, at, scale_at: scaleAt } of header.arrays) {
    const raw = new KINDS[kind](buffer, start + at, shape.reduce((a, b) => a * b, 1));
    const values = scaleAt === null ? raw : unrounded(raw, shape, buffer, start + scaleAt);
    arrays[name] = Object.assign(values, { shape });
  }
  return { facts: header.facts, arrays };
}

/** Integers times the scale of their column; a stack of matrices has one set each. */
function unrounded(raw, shape, buffer, at) {
  const columns = shape.at(-1), rows = shape.at(-2) ?? 1;
  const scales = new Float32Array(buffer, at, raw.length / rows);
  const values = new Float32Array(raw.length);
  for (let i = 0; i < raw.length; i++) {
    const matrix = Math.floor(i / (rows * columns));
    values[i] = raw[i] * scales[matrix * columns + (i % columns)];
  }
  return values;
}

/* ---- networks --------------------------------------------------------------------- */

/** jax.nn.gelu: x (1 + tanh u)/2 with u = sqrt(2/π) (x + 0.044715 x³), by one exp. */
export const gelu = (x) =>
  x / (1 + Math.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)));
export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** x W for one vector; W is stored row by row, an input's weights together. */
export function product(x, W, columns) {
  const y = new Float32Array(columns);
  for (let i = 0, k = 0; i < x.length; i++, k += columns) {
    const v = x[i];
    if (v === 0) continue;
    for (let j = 0; j < columns; j++) y[j] += v * W[k + j];
  }
  return y;
}

/** One multilayer perceptron from functions of one vector, gelu or another between them. */
export function perceptron(layers, activation = gelu) {
  const last = layers.length - 1;
  return (x) => {
    let h = x;
    for (let k = 0; k <= last; k++) {
      h = layers[k](h);
      if (k < last) for (let j = 0; j < h.length; j++) h[j] = activation(h[j]);
    }
    return h;
  };
}

/** A perceptron from the arrays `name.0.kernel`, `name.0.bias`, `name.1.kernel` and so on. */
export function mlp(arrays, name, activation = gelu) {
  const layers = [];
  for (let i = 0; arrays[`${name}.${i}.kernel`]; i++) {
    const W = arrays[`${name}.${i}.kernel`], b = arrays[`${name}.${i}.bias`];
    layers.push((x) => product(x, W, b.length).map((v, j) => v + b[j]));
  }
  return perceptron(layers, activation);
}

/** Numbers in (0, 1) that a seed fixes: Marsaglia's Weyl sequence, mixed (mulberry32). */
export function uniforms(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

/** Standard normal numbers from uniform ones (Box and Muller 1958). */
export const normals = (next) => () =>
  Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());

/* ---- controls --------------------------------------------------------------------- */

/** Markup of a slider, its label and its read-out. */
export function slider(name, label, { min, max, step, className = "" }) {
  return `<label class="vx-slider ${className}"><span>${label}</span>
    <input type="range" data-in="${name}" min="${min}" max="${max}" step="${step}">
    <output data-out="${name}"></output></label>`;
}

/** Put an explorer into `el`: its root, and its parts by kind and name. */
export function build(el, { name, label, markup }) {
  const root = document.createElement("section");
  root.className = `vae-explorer vx-${name}`;
  root.setAttribute("aria-label", label);
  root.innerHTML = markup;
  el.replaceChildren(root);
  for (const control of root.querySelectorAll("input, select, button, canvas")) {
    control.setAttribute("data-lm-suppress-shortcuts", ""); // JupyterLab would take arrows
  }
  const parts = (kind) => {
    const nodes = [...root.querySelectorAll(`[data-${kind}]`)];
    return Object.fromEntries(nodes.map((node) => [node.dataset[kind], node]));
  };
  const group = `vx-${Math.random().toString(36).slice(2)}`;
  for (const radio of root.querySelectorAll("input[type=radio]")) {
    radio.name = `${group}-${radio.name}`; // two explorers on a page share no group
  }
  return {
    root, inputs: parts("in"), outputs: parts("out"),
    canvases: parts("canvas"), buttons: parts("do"),
  };
}

/** Call `act` at an event of `node`, and again at each such event. */
export function on(node, type, act) {
  node.addEventListener(type, act);
}

/** Act on what a kernel sets: what the page sets comes back as an event too, and is no news. */
export function listen(model, names, current, change) {
  const news = names.map((name) => [`change:${name}`, () => {
    const value = model.get(name);
    if (value !== current(name)) change({ [name]: value });
  }]);
  for (const [event, act] of news) model.on(event, act);
  return () => {
    for (const [event, act] of news) model.off(event, act);
  };
}

/**
 * An explorer's state by name, as it began, in step with a kernel's: `change` takes news
 * and calls `changed()`, `tell` sends all of it, `reset` does both with the beginning.
 */
export function stateOf(model, names, changed) {
  const initial = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const s = { ...initial };
  const change = (news) => {
    Object.assign(s, news);
    changed();
  };
  const tell = () => {
    for (const name of names) model.set(name, s[name]);
    model.save_changes();
  };
  const reset = () => {
    change(initial);
    tell();
  };
  return { s, change, tell, reset, stop: listen(model, names, (name) => s[name], change) };
}

/** At most one `draw` a frame, however many events ask for it. */
export function perFrame(draw) {
  let frame = 0;
  const ask = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  ask.cancel = () => cancelAnimationFrame(frame);
  return ask;
}

/**
 * Call `step(u)` at each frame, u from 0 to 1 in half a second, slow at both ends; then
 * `done()`. Where motion is not wanted, `step(1)` at once. Gives back what stops it.
 */
export function glide(step, done) {
  const begun = performance.now();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let frame = requestAnimationFrame(function next(now) {
    const u = still ? 1 : clamp((now - begun) / 500, 0, 1);
    step(u * u * (3 - 2 * u));
    if (u < 1) frame = requestAnimationFrame(next);
    else done();
  });
  return () => cancelAnimationFrame(frame);
}

/** Write to an aria-live note once the reader pauses, so that a drag is not read out. */
export function speaker(note, pause = 300) {
  let timer = 0;
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (note.textContent !== text) note.textContent = text;
    }, pause);
  };
}

/** Mouse, pen and finger alike; positions are fractions of the canvas. */
export function drag(canvas, { down, move, up }) {
  let last = null;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  on(canvas, "pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    last = spot(event);
    down(last);
  });
  on(canvas, "pointermove", (event) => {
    if (!last) return;
    const now = spot(event);
    move(now, last);
    last = now;
  });
  const end = () => {
    if (last) up(last);
    last = null;
  };
  on(canvas, "pointerup", end);
  on(canvas, "pointercancel", end);
}

/** Arrow keys on a canvas: steps of 1, or of 5 with the shift key. */
export function arrows(canvas, act) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  on(canvas, "keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    act(step.map((v) => v * (event.shiftKey ? 5 : 1)));
  });
}

/* ---- drawing ---------------------------------------------------------------------- */

/** A canvas ready to draw on, crisp at any pixel ratio; sizes are in CSS pixels. */
export function begin(canvas) {
  const w = canvas.clientWidth, h = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  return { pen, w, h };
}

/** Text on a canvas; `halo` is a colour around it, where it lies on a picture. */
export function write(pen, text, x, y, { align = "left", size = 12, weight = 400, halo } = {}) {
  pen.font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", sans-serif`;
  pen.textAlign = align;
  if (halo) {
    Object.assign(pen, { strokeStyle: halo, lineWidth: 4, lineJoin: "round" });
    pen.strokeText(text, x, y);
  }
  pen.fillText(text, x, y);
}

/** A line through points, dashed or not. */
export function stroke(pen, colour, width, points, dash = []) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  for (const [x, y] of points) pen.lineTo(x, y);
  pen.stroke();
  pen.setLineDash([]);
}

/** An ellipse as the current path. */
export function ellipse(pen, x, y, rx, ry = rx) {
  pen.beginPath();
  pen.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
}

/** The theme's colours by name, and `changed()` whenever they or the size change. */
export function theme(root, names, changed) {
  const probe = root.appendChild(document.createElement("i"));
  probe.hidden = true;
  const inks = {};
  const read = () => {
    for (const name of names) {
      probe.style.color = `var(--vx-${name})`; // light-dark() resolves only in a colour
      inks[name] = getComputedStyle(probe).color;
    }
    changed();
  };
  const watch = new MutationObserver(read), size = new ResizeObserver(changed);
  const attributeFilter = ["data-theme", "data-jp-theme-light", "style", "class"];
  for (const node of [document.documentElement, document.body]) {
    watch.observe(node, { attributes: true, attributeFilter });
  }
  size.observe(root);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", read);
  const stop = () => {
    watch.disconnect();
    size.disconnect();
    dark.removeEventListener("change", read);
  };
  return { inks, read, stop };
}
