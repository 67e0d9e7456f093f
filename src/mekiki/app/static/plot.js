// Points drawn pixel by pixel: 100,000 of them need a few milliseconds, on any machine, without WebGL (whose plotly
// traces would need eval, which the page's policy forbids).
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

export class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.x = this.y = new Float32Array(0);
    this.colours = new Uint32Array(0);
    this.hidden = this.marked = new Uint8Array(0);
    this.view = { x: 0, y: 0, scale: 1 };
    this.lasso = [];
    this.waiting = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    addEventListener("themed", () => this.draw());
  }
  set(x, y, colours) {
    [this.x, this.y, this.colours] = [x, y, colours];
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
    this.fit();
  }
  fit() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.x.length; i++) {
      left = Math.min(left, this.x[i]); right = Math.max(right, this.x[i]);
      low = Math.min(low, this.y[i]); high = Math.max(high, this.y[i]);
    }
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
    const radius = Math.round((x.length > 30000 ? 1.5 : x.length > 3000 ? 2.5 : 4) * this.ratio);
    const mask = [];
    for (let dy = -radius; dy <= radius; dy++) {
      const half = Math.round(Math.sqrt((radius + 0.4) ** 2 - dy * dy));
      mask.push(half);
    }
    for (let i = 0; i < x.length; i++) {
      if (hidden[i]) continue;
      const px = Math.round(view.x + x[i] * view.scale);
      const py = Math.round(view.y - y[i] * view.scale);
      const grow = marked[i] ? 1 : 0;
      if (px < radius + 2 || py < radius + 2 || px >= width - radius - 2 || py >= height - radius - 2) continue;
      for (let dy = -radius; dy <= radius; dy++) {
        const half = mask[dy + radius];
        const from = (py + dy) * width + px;
        if (grow) pixels.fill(ink, from - half - 1, from + half + 2);
        pixels.fill(colours[i], from - half + grow, from + half + 1 - grow);
      }
    }
    this.context.putImageData(this.image, 0, 0);
    if (this.lasso.length > 1) {
      this.context.strokeStyle = style.getPropertyValue("--accent").trim();
      this.context.lineWidth = 2 * this.ratio;
      this.context.beginPath();
      this.lasso.forEach(([a, b]) => this.context.lineTo(a, b));
      this.context.stroke();
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
