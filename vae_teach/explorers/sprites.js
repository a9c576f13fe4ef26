// Sprites: decoded and painted, and what latents know of their factors.

import { mlp, sigmoid } from "./shared.js";

/** z -> the pixels' means, by a decoder that has only the pixels which are ever lit. */
export function decoderOf(arrays, name) {
  const network = mlp(arrays, name, (v) => Math.max(v, 0)), size = arrays.lit.length;
  const places = [...arrays.lit.keys()].filter((p) => arrays.lit[p]);
  return (z) => {
    const x = new Float32Array(size);
    network(z).forEach((v, j) => { x[places[j]] = sigmoid(v); });
    return x;
  };
}

/** A row of pictures over the width of a canvas, each below or beside the last. */
export function paintRow({ pen, w }, paint, images, top, columns = images.length) {
  const size = w / columns;
  images.forEach((x, k) => {
    const left = (k % columns) * size, row = Math.floor(k / columns);
    paint(pen, x, left + 1, top + row * size + 1, size - 2);
  });
}

/** Write shares of an entropy into table cells, and colour each by its own. */
export function heat(cells, shares) {
  cells.forEach((cell, k) => {
    cell.textContent = shares[k].toFixed(2);
    const percent = Math.round(60 * Math.max(0, Math.min(1, shares[k])));
    cell.style.background = `color-mix(in srgb, var(--vx-data) ${percent}%, transparent)`;
  });
}

/** The largest of a list, the next, and the place of the largest. */
export function topTwo(list) {
  const first = Math.max(...list), place = list.indexOf(first);
  return { first, place, second: Math.max(0, ...list.filter((_, k) => k !== place)) };
}

/** "x", "x and y", "x, y and scale"; `none` where the list is empty. */
export function listed(names, none = "none") {
  if (!names.length) return none;
  if (names.length === 1) return names[0];
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
