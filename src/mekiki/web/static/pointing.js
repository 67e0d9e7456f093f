// Touch, mouse and keys on a plot: move, zoom, lasso, hover.
const STILL = 6; // pixels that a tap may move

export function pointing(plot, { tool, onLasso, onPoint }) {
  const { canvas } = plot;
  const down = new Map();
  let [from, travelled] = [null, 0];

  const middle = () => { const all = [...down.values()]; return [0, 1].map((k) => all.reduce((sum, each) => sum + each[k], 0) / all.length); };
  const apart = () => { const [a, b] = [...down.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, plot.at(event));
    [from, travelled] = [middle(), down.size === 1 ? 0 : Infinity];
    plot.lasso = tool() === "lasso" && down.size === 1 ? [from] : [];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) { onPoint(event, plot.near(plot.at(event))); return; }
    const before = down.size === 2 ? apart() : 0;
    down.set(event.pointerId, plot.at(event));
    const here = middle();
    travelled += Math.hypot(here[0] - from[0], here[1] - from[1]);
    if (plot.lasso.length) { plot.lasso.push(here); plot.draw(); }
    else {
      if (before) plot.zoom(apart() / before, here);
      plot.move(here[0] - from[0], here[1] - from[1]);
    }
    if (travelled > STILL * plot.ratio) onPoint(null, -1);
    from = here;
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (event.type === "pointerup" && !down.size) {
      if (plot.lasso.length > 2) onLasso(plot.lasso);
      else if (travelled <= STILL * plot.ratio) onPoint(event, plot.near(plot.at(event), 14));
    }
    plot.lasso = [];
    if (down.size) from = middle();
    plot.draw();
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") onPoint(null, -1); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    plot.zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) / 500), plot.at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 40 * plot.ratio;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) plot.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") plot.zoom(1.2);
    else if (event.key === "-") plot.zoom(1 / 1.2);
    else if (event.key === "0") plot.fit();
    else return;
    event.preventDefault();
  });
}
