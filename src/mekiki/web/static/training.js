// Training view: start a training, follow it while it runs, and go through its epochs afterwards.
import { column, el, get, number, post, state, svg, reportErrors } from "./base.js";
import { COLOURS, Plot, extent, packed, swatch } from "./plot.js";
import { setText } from "./words.js";

const NUMBERS = ["dim", "margin", "batch_size", "lr", "per_class", "size"];
const FRAME_MS = 350; // from one epoch to the next when played

function curves(history) {
  const [W, H, left] = [460, 220, 52];
  const values = history.flatMap((row) => [row.train_loss, row.val_loss]).filter((each) => Number.isFinite(each));
  if (!values.length) return [];
  const top = Math.max(...values) || 1;
  const x = (i) => left + ((W - left - 8) * i) / Math.max(history.length - 1, 1);
  const y = (value) => H - 24 - ((H - 36) * value) / top;
  const drawn = ["train", "val"].flatMap((key) => {
    const points = history.map((row, i) => [x(i), y(row[`${key}_loss`])]).filter((each) => Number.isFinite(each[1]));
    return [svg("polyline", { class: key, points: points.map((each) => each.join(",")).join(" ") }),
      ...points.map(([px, py]) => (key === "train" ? svg("circle", { cx: px, cy: py, r: 3, class: "dot train" }) : svg("path", { d: `M${px} ${py - 4}l4 4l-4 4l-4 -4z`, class: "dot val" })))];
  });
  return [...[0, 0.5, 1].flatMap((part) => [svg("line", { class: part ? "rule" : "axis", x1: left, x2: W, y1: y(part * top), y2: y(part * top) }),
    svg("text", { x: left - 6, y: y(part * top) + 4, "text-anchor": "end" }, part ? number(part * top) : "0")]),
    svg("text", { x: left, y: H - 6 }, "1"), svg("text", { x: W - 4, y: H - 6, "text-anchor": "end" }, String(history.length)), ...drawn];
}

export function trainingView() {
  let [stream, current, labels, history, frames, epochs] = [null, null, null, [], [], []];
  let [bounds, at, playing] = [undefined, -1, 0];
  const fields = {};
  const field = (name, input) => { fields[name] = input; return el("label", {}, el("span", { t: name }), input); };
  const amount = (name, value = "") => field(name, el("input", { type: "number", step: "any", min: "0", value }));
  const choice = (name) => field(name, el("select"));
  const form = el("form", { onsubmit: reportErrors(async (event) => {
    event.preventDefault();
    const asked = { seed: Number(fields.seed.value || 0), data: fields.data.value, recipe: fields.recipe.value };
    for (const name of ["loss", "encoder"]) asked[name] = fields[name].value || null;
    for (const name of ["epochs", ...NUMBERS]) asked[name] = fields[name].value ? Number(fields[name].value) : null;
    await watch((await post("trainings", asked)).id);
    await refreshList();
  }) },
  el("div", { class: "fields" }, ...["data", "recipe", "loss", "encoder"].map(choice), amount("epochs"), amount("seed", "0"), el("button", { class: "main", t: "start" })),
  el("details", {}, el("summary", { t: "moreSettings" }), el("div", { class: "fields" }, ...NUMBERS.map((name) => amount(name)))));
  const list = el("ul", { class: "chips", label: "runs" });
  const canvas = el("canvas", { role: "img", label: "scatter" });
  const title = el("h2");
  const curve = svg("svg", { viewBox: "0 0 460 220", role: "img" });
  const slider = el("input", { type: "range", min: "0", max: "0", value: "0", oninput: () => { pause(); show(Number(slider.value)); } });
  const play = el("button", { type: "button", class: "play", t: "play", onclick: () => (playing ? pause() : start()) });
  const where = el("output");
  const legend = el("div", { class: "legend" });
  const findings = el("div");
  const stop = el("button", { type: "button", class: "stop", t: "stop", onclick: reportErrors(async () => { showStatus(await post(`trainings/${encodeURIComponent(current.id)}/stop`)); await refreshList(); }) });
  const resume = el("button", { type: "button", class: "resume", t: "resume", onclick: reportErrors(async () => { await watch((await post(`trainings/${encodeURIComponent(current.id)}/resume`)).id); await refreshList(); }) });
  const status = el("span", { role: "status" });
  const failure = el("p", { class: "guess" });
  const view = el("div", { class: "card", hidden: true }, el("div", { class: "bar" }, title, status, stop, resume), failure,
    el("div", { class: "split" }, el("div", {}, el("div", { class: "plot small" }, canvas),
      el("div", { class: "bar wide" }, play, el("label", {}, el("span", { t: "slider" }), slider), where), legend),
    el("div", {}, el("h3", { t: "curve" }), curve, el("p", { class: "faint" }, "● ", el("span", { t: "train" }), "  ◆ ", el("span", { t: "val" })), findings)));
  const plot = new Plot(canvas);

  function showStatus(training) {
    current = training;
    title.textContent = training.id;
    stop.hidden = training.state !== "running";
    resume.hidden = !training.can_resume;
    setText(status, training.state);
    status.className = `state ${training.state}`;
    failure.textContent = training.message;
  }
  // Draw the points of a frame, or between two frames, so that clusters are seen to move.
  function show(i, part = 1, before = i) {
    const [from, to] = [frames[before], frames[i]];
    if (!to || !labels) return;
    const count = to.length / 2;
    const [x, y, colours] = [new Float32Array(count), new Float32Array(count), new Uint32Array(count)];
    for (let p = 0; p < count; p++) {
      x[p] = from[2 * p] + part * (to[2 * p] - from[2 * p]);
      y[p] = from[2 * p + 1] + part * (to[2 * p + 1] - from[2 * p + 1]);
      colours[p] = packed(COLOURS[labels.of[p] % COLOURS.length]);
    }
    plot.set(x, y, colours);
    plot.fit(bounds);
    at = i;
    slider.max = String(frames.length - 1);
    slider.value = String(i);
    slider.setAttribute("aria-valuetext", String(epochs[i]));
    setText(where, "epoch", epochs[i], current?.epochs ?? epochs[epochs.length - 1]);
  }
  function pause() {
    cancelAnimationFrame(playing);
    playing = 0;
    setText(play, "play");
  }
  function start() {
    if (frames.length < 2) return;
    const first = at >= frames.length - 1 ? 0 : at;
    const begun = performance.now();
    const step = (now) => {
      const gone = first + (now - begun) / FRAME_MS;
      const next = Math.min(Math.floor(gone) + 1, frames.length - 1);
      show(next, Math.min(gone - (next - 1), 1), next - 1);
      if (gone >= frames.length - 1) { pause(); return; }
      playing = requestAnimationFrame(step);
    };
    playing = requestAnimationFrame(step);
    setText(play, "pause");
  }
  function addEpoch(result) {
    history.push(result.row);
    curve.replaceChildren(...curves(history));
    findings.replaceChildren(...result.findings.map((each) => el("p", { class: each.severity === "ok" ? "faint" : "guess" }, `${each.message} ${each.advice}`)));
    if (!result.points) return;
    const points = column(result.points, Float32Array);
    const [x, y] = [points.filter((_, i) => i % 2 === 0), points.filter((_, i) => i % 2)];
    bounds = extent(x, y, bounds);
    const newest = at === frames.length - 1;
    frames.push(points);
    epochs.push(result.epoch);
    slider.max = String(frames.length - 1);
    if (newest && !playing) show(frames.length - 1); // an earlier epoch stays if the user chose it
  }
  async function watch(id) {
    stream?.close();
    pause();
    [history, frames, epochs, labels, bounds, at] = [[], [], [], null, undefined, -1];
    plot.set(new Float32Array(0), new Float32Array(0), new Uint32Array(0));
    plot.draw();
    for (const part of [curve, findings, legend, where]) part.replaceChildren();
    view.hidden = false;
    showStatus(await get(`trainings/${encodeURIComponent(id)}`));
    const mine = (stream = new EventSource(`/api/trainings/${encodeURIComponent(id)}/events`));
    mine.addEventListener("images", (event) => {
      const result = JSON.parse(event.data);
      labels = { of: column(result.label, Uint16Array), names: result.labels };
      legend.replaceChildren(...result.labels.map((name, i) => el("span", { class: "key" }, swatch(COLOURS[i % COLOURS.length]), name)));
    });
    mine.addEventListener("epoch", (event) => addEpoch(JSON.parse(event.data)));
    mine.addEventListener("state", (event) => {
      const result = JSON.parse(event.data);
      showStatus(result);
      if (result.state !== "running") { mine.close(); reportErrors(refreshList)(); }
    });
  }
  async function refreshList() {
    const { trainings } = await get("trainings");
    list.replaceChildren(...trainings.map((each) => el("li", {}, el("button", { type: "button", "aria-pressed": String(each.id === current?.id), onclick: reportErrors(async () => { await watch(each.id); await refreshList(); }) },
      each.id, " ", el("span", { class: `state ${each.state}`, t: each.state })))));
    if (!trainings.length) list.append(el("li", { class: "faint", t: "noRuns" }));
    return trainings;
  }
  const enter = reportErrors(async () => {
    if (!fields.data.options.length) {
      const choices = await get("trainings/choices");
      const fill = (name, values, first) => fields[name].replaceChildren(...(first ? [el("option", { value: "", t: "own" })] : []), ...values.map((value) => el("option", { value }, value)));
      fill("data", choices.data, false);
      fill("recipe", choices.recipes, false);
      fill("loss", choices.losses, true);
      fill("encoder", choices.encoders, true);
    }
    const trainings = await refreshList();
    if (!current && trainings.length) { await watch(trainings[trainings.length - 1].id); await refreshList(); }
  });
  return { enter, node: el("div", {}, el("div", { class: "card" }, form), list, view) };
}
