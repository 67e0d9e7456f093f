// Scatter plot drawn pixel by pixel: 100,000 points take a few milliseconds without a graphics card. Plotly's WebGL traces are
// slow there and need eval, which the page's policy forbids (docs/decisions/0010).
export const COLOURS = ["#4477AA", "#FFA90E", "#BD1F01", "#44AA99", "#832DB6", "#A96B59", "#33BBEE", "#999933", "#882255", "#BBBBBB"];
export const packed = (hex) => {
  const n = parseInt(hex.slice(1), 16);
  return (0xff000000 | ((n & 255) << 16) | (n & 0xff00) | (n >> 16)) >>> 0;
};
const RAMP = ["#0d0887", "#7e03a8", "#cc4778", "#f89540", "#f0f921"];
export function ramp(part) {
  const at = Math.min(Math.max(part, 0), 0.9999) * (RAMP.length - 1);
  const [a, b] = [packed(RAMP[Math.floor(at)]), packed(RAMP[Math.floor(at) + 1])];
  const f = at % 1;
  const mix = (shift) => Math.round(((a >> shift) & 255) * (1 - f) + ((b >> shift) & 255) * f) << shift;
  return (0xff000000 | mix(16) | mix(8) | mix(0)) >>> 0;
}
const SOFT = 30000; // up to this many points: smooth edges, and translucent points where there are fewer
const MANY = 5000; // from this many points on only the edges are blended, which is faster
const EDGE = 4;
const radiusOf = (count) => (count > SOFT ? 1.2 : count > 5000 ? 2.1 : count > 800 ? 3.1 : 4);

// A disc as pixel offsets from its centre, and the share of each pixel it covers, in 1/256.
function disc(radius, width, opacity) {
  const [offsets, shares] = [[], []];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const share = Math.min(Math.max(radius + 0.5 - Math.hypot(dx, dy), 0), 1);
      if (share > 0.05) { offsets.push(dy * width + dx); shares.push(Math.round(256 * share * opacity)); }
    }
  }
  return { offsets: Int32Array.from(offsets), shares: Uint16Array.from(shares) };
}
function stamp(pixels, at, { offsets, shares }, colour) {
  const [redBlue, green] = [colour & 0xff00ff, (colour >>> 8) & 255];
  for (let k = 0; k < offsets.length; k++) {
    const share = shares[k];
    const place = at + offsets[k];
    if (share === 256) { pixels[place] = colour; continue; }
    const under = pixels[place];
    const rest = 256 - share;
    const outer = (((under & 0xff00ff) * rest + redBlue * share) >>> 8) & 0xff00ff;
    const inner = (((under >>> 8) & 255) * rest + green * share) >>> 8;
    pixels[place] = (0xff000000 | (inner << 8) | outer) >>> 0;
  }
}

export class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.x = this.y = new Float32Array(0);
    this.colours = new Uint32Array(0);
    this.hidden = this.marked = new Uint8Array(0);
    this.view = { x: 0, y: 0, scale: 1 };
    this.lasso = [];
    this.ratio = 1;
    this.waiting = false;
    this.painted = 0; // points of the last frame
    new ResizeObserver(() => this.resize()).observe(canvas);
    addEventListener("themed", () => this.draw());
  }
  set(x, y, colours) {
    [this.x, this.y, this.colours] = [x, y, colours];
    if (this.hidden.length === x.length) { this.hidden.fill(0); this.marked.fill(0); return; }
    this.hidden = new Uint8Array(x.length);
    this.marked = new Uint8Array(x.length);
  }
  resize() {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(this.canvas.clientWidth * ratio), Math.round(this.canvas.clientHeight * ratio)];
    if (!w || !h || (w === this.canvas.width && h === this.canvas.height)) return;
    [this.canvas.width, this.canvas.height, this.ratio] = [w, h, ratio];
    this.image = this.context.createImageData(w, h);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.fit(this.bounds);
  }
  // Fit all points into the view, or the bounds [left, right, low, high].
  fit(bounds = null) {
    this.bounds = bounds;
    const [left, right, low, high] = bounds ?? extent(this.x, this.y);
    if (this.image && left <= right) {
      const { width, height } = this.canvas;
      const scale = 0.9 * Math.min(width / (right - left || 1), height / (high - low || 1));
      this.view = { scale, x: width / 2 - (scale * (left + right)) / 2, y: height / 2 + (scale * (low + high)) / 2 };
    }
    this.draw();
  }
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }
  paint() {
    if (!this.image) return;
    const { width, height } = this.canvas;
    const { pixels, view, x, y, colours, hidden, marked } = this;
    const style = getComputedStyle(document.documentElement);
    pixels.fill(packed(style.getPropertyValue("--card").trim()));
    const ink = packed(style.getPropertyValue("--ink").trim());
    const radius = radiusOf(x.length) * this.ratio;
    const soft = x.length <= SOFT;
    const dot = disc(radius, width, x.length > MANY ? 1 : 0.82);
    if (!soft) dot.shares.fill(256);
    const [ring, full] = [disc(radius + 1.6 * this.ratio, width, 1), disc(radius, width, 1)];
    const margin = Math.ceil(radius + EDGE * this.ratio);
    const above = [];
    for (let i = 0; i < x.length; i++) {
      if (hidden[i]) continue;
      const px = Math.round(view.x + x[i] * view.scale);
      const py = Math.round(view.y - y[i] * view.scale);
      if (px < margin || py < margin || px >= width - margin || py >= height - margin) continue;
      if (marked[i]) above.push(i, py * width + px);
      else stamp(pixels, py * width + px, dot, colours[i]);
    }
    for (let k = 0; k < above.length; k += 2) stamp(pixels, above[k + 1], ring, ink);
    for (let k = 0; k < above.length; k += 2) stamp(pixels, above[k + 1], full, colours[above[k]]);
    this.context.putImageData(this.image, 0, 0);
    this.painted = x.length;
    if (this.lasso.length > 1) {
      const pen = this.context;
      pen.beginPath();
      this.lasso.forEach(([a, b]) => pen.lineTo(a, b));
      pen.closePath();
      pen.strokeStyle = pen.fillStyle = style.getPropertyValue("--accent").trim();
      pen.globalAlpha = 0.12;
      pen.fill();
      pen.globalAlpha = 1;
      pen.lineWidth = 2 * this.ratio;
      pen.stroke();
    }
  }
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }
  near([px, py], reach = 9) {
    let [best, row] = [(reach * this.ratio) ** 2, -1];
    for (let i = 0; i < this.x.length; i++) {
      if (this.hidden[i]) continue;
      const d = (this.view.x + this.x[i] * this.view.scale - px) ** 2 + (this.view.y - this.y[i] * this.view.scale - py) ** 2;
      if (d < best) [best, row] = [d, i];
    }
    return row;
  }
  zoom(by, [px, py] = [this.canvas.width / 2, this.canvas.height / 2]) {
    this.view = { scale: this.view.scale * by, x: px - (px - this.view.x) * by, y: py - (py - this.view.y) * by };
    this.draw();
  }
  move(dx, dy) { this.view.x += dx; this.view.y += dy; this.draw(); }
  inside(polygon) {
    const rows = [];
    for (let i = 0; i < this.x.length; i++) {
      if (this.hidden[i]) continue;
      const [px, py] = [this.view.x + this.x[i] * this.view.scale, this.view.y - this.y[i] * this.view.scale];
      let within = false;
      for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
        const [[ax, ay], [bx, by]] = [polygon[a], polygon[b]];
        if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) within = !within;
      }
      if (within) rows.push(i);
    }
    return rows;
  }
}

export function extent(x, y, [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity]) {
  for (let i = 0; i < x.length; i++) {
    left = Math.min(left, x[i]); right = Math.max(right, x[i]);
    low = Math.min(low, y[i]); high = Math.max(high, y[i]);
  }
  return [left, right, low, high];
}

// Colour swatch of a legend; a canvas, since the policy of the page forbids styles in markup.
export function swatch(colour) {
  const box = document.createElement("canvas");
  [box.width, box.height, box.className] = [1, 1, "swatch"];
  box.setAttribute("aria-hidden", "true");
  const pen = box.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  return box;
}
