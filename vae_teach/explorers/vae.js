// A VAE with two latents whose weights are functions of beta: conditioned.py in JavaScript.

import { clamp, lerp, perceptron, product, sigmoid } from "./shared.js";

/** y = (x W) g(t) + s(t): the matrix is shared, gains and shifts belong to the knots. */
function dial(arrays, name) {
  const kernel = arrays[`${name}.kernel`], columns = kernel.shape[1];
  const gains = arrays[`${name}.gain`], shifts = arrays[`${name}.shift`];
  const gain = new Float32Array(columns), shift = new Float32Array(columns);
  return {
    tune(k, u) {
      for (let j = 0, a = k * columns, b = a + columns; j < columns; j++, a++, b++) {
        gain[j] = 1 + lerp(gains[a], gains[b], u);
        shift[j] = lerp(shifts[a], shifts[b], u);
      }
    },
    multiply: (x) => product(x, kernel, columns),
    finish: (y) => y.map((v, j) => v * gain[j] + shift[j]),
  };
}

/** y = x W(t) + b(t): a matrix for each knot, blended between the two nearest. */
function blend(arrays, name) {
  const kernels = arrays[`${name}.kernel`], biases = arrays[`${name}.bias`];
  const [, rows, columns] = kernels.shape;
  const kernel = new Float32Array(rows * columns), bias = new Float32Array(columns);
  const mix = (all, one, k, u) => {
    for (let i = 0, a = k * one.length, b = a + one.length; i < one.length; i++) {
      one[i] = lerp(all[a + i], all[b + i], u);
    }
  };
  return {
    tune(k, u) {
      mix(kernels, kernel, k, u);
      mix(biases, bias, k, u);
    },
    apply(x) {
      const y = product(x, kernel, columns);
      for (let j = 0; j < columns; j++) y[j] += bias[j];
      return y;
    },
  };
}

/** Encoder and decoder at the beta of the last `tune`. */
export function vae(arrays, knots) {
  const first = dial(arrays, "encoder.0"), last = dial(arrays, "decoder.2");
  const inner = ["encoder.1", "encoder.2", "decoder.0", "decoder.1"];
  const [e1, e2, d0, d1] = inner.map((name) => blend(arrays, name));
  const encoder = perceptron([first.finish, e1.apply, e2.apply]);
  const decoder = perceptron([d0.apply, d1.apply, (h) => last.finish(last.multiply(h))]);
  const finish = (started) => {
    const [m0, m1, v0, v1] = encoder(started);
    return { mean: [m0, m1], sd: [Math.exp(v0 / 2), Math.exp(v1 / 2)] };
  };
  return {
    tune(t) {
      const k = Math.min(Math.floor(t * (knots - 1)), knots - 2), u = t * (knots - 1) - k;
      for (const layer of [first, last, e1, e2, d0, d1]) layer.tune(k, u);
    },
    start: first.multiply, // the one large product; it does not depend on beta
    finish,
    encode: (x) => finish(first.multiply(x)),
    decode: (z) => decoder(Float32Array.from(z)).map(sigmoid),
  };
}

/** KL(q || N(0, I)) in nats. */
export const rateOf = ({ mean, sd }) =>
  [0, 1].reduce((r, k) => r + (sd[k] ** 2 + mean[k] ** 2 - 1) / 2 - Math.log(sd[k]), 0);

/** -log p(x|z) in nats, the pixels as coins. */
export function surprise(x, p) {
  const log = (v) => Math.log(Math.max(v, 1e-7));
  return x.reduce((sum, v, i) => sum - v * log(p[i]) - (1 - v) * log(1 - p[i]), 0);
}

/** A point between a and b: on the chord, or turning about the origin. */
export function between(a, b, u, spherical) {
  const cosine = (a[0] * b[0] + a[1] * b[1]) / (Math.hypot(...a) * Math.hypot(...b) + 1e-9);
  const angle = Math.acos(clamp(cosine, -1, 1)), sine = Math.sin(angle);
  const turn = spherical && sine > 1e-3;
  const v = turn ? Math.sin((1 - u) * angle) / sine : 1 - u;
  const w = turn ? Math.sin(u * angle) / sine : u;
  return [v * a[0] + w * b[0], v * a[1] + w * b[1]];
}

/** One standard normal number (Box and Muller 1958). */
export function normal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}
