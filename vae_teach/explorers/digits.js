// Digits of 28 x 28 pixels: painted in the theme's ink, and drawn by hand.

import { lerp } from "./shared.js";

export const SIDE = 28, PIXELS = SIDE * SIDE;

/** Draws digits in the theme's ink, so that they are at home in light and dark. */
export function painter(inks, side = SIDE) {
  const sheet = new OffscreenCanvas(side, side), pen = sheet.getContext("2d");
  const pixels = pen.createImageData(side, side);
  const channels = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number);
  return (target, x, left, top, size) => {
    const paper = channels(inks.soft), ink = channels(inks.ink);
    for (let i = 0; i < side * side; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = lerp(paper[c], ink[c], x[i]);
      pixels.data[4 * i + 3] = 255;
    }
    pen.putImageData(pixels, 0, 0);
    target.imageSmoothingEnabled = false;
    target.drawImage(sheet, left, top, size, size);
  };
}

/** Ink on a canvas, and the 28 x 28 image that MNIST would have made of it. */
export function pad() {
  const large = 10 * SIDE;
  const sheet = new OffscreenCanvas(large, large), ink = sheet.getContext("2d");
  const small = new OffscreenCanvas(SIDE, SIDE);
  const reader = small.getContext("2d", { willReadFrequently: true });
  const sample = (left, top, scale) => {
    reader.fillStyle = "black";
    reader.fillRect(0, 0, SIDE, SIDE);
    reader.imageSmoothingQuality = "high";
    reader.drawImage(sheet, left, top, large * scale, large * scale);
    const { data } = reader.getImageData(0, 0, SIDE, SIDE);
    return Float32Array.from({ length: PIXELS }, (_, i) => data[4 * i] / 255);
  };
  return {
    clear: () => ink.clearRect(0, 0, large, large),
    stroke(to, from) {
      Object.assign(ink, { strokeStyle: "white", lineWidth: 22, lineCap: "round" });
      ink.beginPath();
      ink.moveTo(from[0] * large, from[1] * large);
      ink.lineTo(to[0] * large, to[1] * large);
      ink.stroke();
    },
    asDrawn: () => sample(0, 0, 1 / 10),
    /** The longer side 20 pixels, the centre of mass in the middle. */
    asMnist() {
      const box = boundsOf(sample(0, 0, 1 / 10));
      if (!box) return new Float32Array(PIXELS);
      const grow = 20 / box.side;
      return sample(SIDE / 2 - grow * box.centre[0], SIDE / 2 - grow * box.centre[1], grow / 10);
    },
  };
}

function boundsOf(x) {
  let mass = 0, sumX = 0, sumY = 0;
  const xs = [], ys = [];
  x.forEach((v, i) => {
    const column = i % SIDE, row = Math.floor(i / SIDE);
    mass += v;
    sumX += v * (column + 0.5);
    sumY += v * (row + 0.5);
    if (v > 0.1) {
      xs.push(column);
      ys.push(row);
    }
  });
  if (!xs.length) return null;
  const width = Math.max(...xs) - Math.min(...xs), height = Math.max(...ys) - Math.min(...ys);
  return { side: Math.max(width, height) + 1, centre: [sumX / mass, sumY / mass] };
}
