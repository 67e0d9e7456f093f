// A training: started, watched as it runs, and looked through epoch by epoch afterwards.
import { column, el, get, number, post, state, svg, trying } from "./base.js";
import { COLOURS, Plot, packed } from "./plot.js";
import { say } from "./words.js";

const NUMBERS = ["dim", "margin", "epochs", "batch_size", "lr", "per_class", "size"];

export function trainingView() {
  let [stream, current, labels, history, frames, epochs] = [null, null, null, [], [], []];
  const fields = {};
  const field = (name, input) => { fields[name] = input; return el("label", {}, el("span", { t: name }), input); };
  const form = el("form", { class: "fields", onsubmit: trying(async (event) => {
    event.preventDefault();
    const asked = { seed: Number(fields.seed.value || 0), data: fields.data.value };
    for (const name of ["recipe", "loss", "encoder"]) asked[name] = fields[name].value || null;
    for (const name of NUMBERS) asked[name] = fields[name].value ? Number(fields[name].value) : null;
    if (asked.recipe === null) delete asked.recipe;
    await watch((await post("trainings", asked)).id);
    await listed();
  }) }, ...["data", "recipe", "loss", "encoder"].map((name) => field(name, el("select"))),
  ...NUMBERS.map((name) => field(name, el("input", { type: "number", step: "any", min: "0" }))),
  field("seed", el("input", { type: "number", value: "0", min: "0" })), el("button", { class: "main", t: "start" }));
  const list = el("ul", { class: "log" });
  const canvas = el("canvas", { role: "img", label: "scatter" });
  const title = el("h2");
  const curve = svg("svg", { viewBox: "0 0 460 220", role: "img" });
  const slider = el("input", { type: "range", min: "0", max: "0", value: "0", oninput: () => frame(Number(slider.value)) });
  const at = el("output");
  const findings = el("div");
  const stop = el("button", { type: "button", t: "stop", onclick: trying(async () => { told(await post(`trainings/${encodeURIComponent(current.id)}/stop`)); }) });
  const resume = el("button", { type: "button", t: "resume", onclick: trying(async () => { await watch((await post(`trainings/${encodeURIComponent(current.id)}/resume`)).id); }) });
  const status = el("p", { role: "status" });
  const view = el("div", { class: "card", hidden: true }, title, el("div", { class: "bar" }, stop, resume, status),
    el("div", { class: "split" }, el("div", {}, el("div", { class: "plot small" }, canvas), el("div", { class: "bar" }, el("label", {}, el("span", { t: "slider" }), slider), at)),
      el("div", {}, el("h3", { t: "curve" }), curve, el("p", { class: "faint" }, "● ", el("span", { t: "train" }), "  ◆ ", el("span", { t: "val" })), findings)));
  const plot = new Plot(canvas);

  function told(training) {
    current = training;
    title.textContent = training.id;
    stop.hidden = training.state !== "running";
    resume.hidden = !training.can_resume;
    say(status, training.state);
    if (training.message) status.append(` — ${training.message}`);
  }
  function frame(i) {
    const points = frames[i];
    if (!points || !labels) return;
    const count = points.length / 2;
    const [x, y, colours] = [new Float32Array(count), new Float32Array(count), new Uint32Array(count)];
    for (let p = 0; p < count; p++) {
      x[p] = points[2 * p]; y[p] = points[2 * p + 1];
      colours[p] = packed(COLOURS[labels[p] % COLOURS.length]);
    }
    plot.set(x, y, colours);
    plot.fit();
    slider.max = String(frames.length - 1);
    slider.value = String(i);
    say(at, "epoch", epochs[i], current?.epochs ?? epochs[epochs.length - 1]);
  }
  function curves() {
    const [W, H] = [460, 220];
    const values = history.flatMap((row) => [row.train_loss, row.val_loss]).filter((each) => Number.isFinite(each));
    if (!values.length) return;
    const top = Math.max(...values) || 1;
    const x = (i) => 40 + ((W - 50) * i) / Math.max(history.length - 1, 1);
    const line = (key) => history.map((row, i) => [x(i), H - 22 - ((H - 34) * row[key]) / top]).filter(([, y]) => Number.isFinite(y));
    const drawn = ["train", "val"].flatMap((key) => {
      const points = line(`${key}_loss`);
      return [svg("polyline", { class: key, points: points.map((each) => each.join(",")).join(" ") }),
        ...points.map(([px, py]) => (key === "train" ? svg("circle", { cx: px, cy: py, r: 3, fill: "#4477aa" }) : svg("path", { d: `M${px} ${py - 4}l4 4l-4 4l-4 -4z`, fill: "#e07b00" })))];
    });
    curve.replaceChildren(svg("line", { class: "axis", x1: 40, x2: W, y1: H - 22, y2: H - 22 }), svg("text", { x: 0, y: 16 }, number(top)), svg("text", { x: 0, y: H - 24 }, "0"),
      svg("text", { x: W - 4, y: H - 6, "text-anchor": "end" }, String(history.length)), ...drawn);
  }
  async function watch(id) {
    stream?.close();
    [history, frames, epochs, labels] = [[], [], [], null];
    plot.set(new Float32Array(0), new Float32Array(0), new Uint32Array(0));
    plot.draw();
    curve.replaceChildren();
    findings.replaceChildren();
    view.hidden = false;
    told(await get(`trainings/${encodeURIComponent(id)}`));
    stream = new EventSource(`/api/trainings/${encodeURIComponent(id)}/events`);
    stream.addEventListener("images", (event) => { labels = column(JSON.parse(event.data).label, Uint16Array); });
    stream.addEventListener("epoch", (event) => {
      const said = JSON.parse(event.data);
      history.push(said.row);
      curves();
      findings.replaceChildren(...said.findings.map((each) => el("p", { class: "faint" }, `${each.message} ${each.advice}`)));
      if (!said.points) return;
      frames.push(column(said.points, Float32Array));
      epochs.push(said.epoch);
      frame(frames.length - 1);
    });
    const open = stream;
    stream.addEventListener("state", (event) => {
      const said = JSON.parse(event.data);
      told(said);
      if (said.state !== "running") { open.close(); trying(listed)(); }
    });
  }
  async function listed() {
    const { trainings } = await get("trainings");
    list.replaceChildren(...trainings.map((each) => el("li", {}, el("button", { type: "button", onclick: trying(() => watch(each.id)) }, each.id), " ", el("span", { class: "faint", t: each.state }))));
    if (!trainings.length) list.append(el("li", { class: "faint", t: "noRuns" }));
  }
  const enter = trying(async () => {
    if (!fields.data.options.length) {
      const choices = await get("trainings/choices");
      const fill = (name, values, first) => fields[name].replaceChildren(...(first ? [el("option", { value: "", t: "own" })] : []), ...values.map((value) => el("option", { value }, value)));
      fill("data", choices.data, false);
      fill("recipe", choices.recipes, false);
      fill("loss", choices.losses, true);
      fill("encoder", choices.encoders, true);
    }
    await listed();
  });
  return { enter, node: el("div", {}, el("div", { class: "card" }, form), el("div", { class: "card" }, el("h2", { t: "runs" }), list), view) };
}
