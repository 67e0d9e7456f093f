// Every vector on a plane: looked at, filtered, grouped with a lasso, relabelled, sent to the cases.
import { column, done, el, get, number, post, state, trying } from "./base.js";
import { COLOURS, Plot, packed, ramp } from "./plot.js";
import { say, word } from "./words.js";

const SHOWN = 60;

export function mapView() {
  let [sources, source, data, rows, tool, by] = [[], null, null, [], "pan", "label"];
  const off = { label: new Set(), verdict: new Set() };
  const choose = el("select", { onchange: trying(() => open(choose.value)) });
  const colour = el("select", { onchange: () => { by = colour.value; paint(); } },
    ...["label", "distance", "verdict"].map((key) => el("option", { value: key, t: key })));
  const tools = ["pan", "lasso"].map((key) => el("button", { type: "button", "aria-pressed": String(key === "pan"), t: key, "data-tool": key, onclick: () => use(key) }));
  const canvas = el("canvas", { tabindex: "0", role: "application", label: "mapLabel" });
  const tip = el("div", { class: "tip", hidden: true });
  const legend = el("div", { class: "legend" });
  const note = el("p", { class: "faint" });
  const title = el("h2", { t: ["selected", 0] });
  const grid = el("div", { class: "grid", tabindex: "0", role: "group", label: "map" });
  const more = el("p", { class: "faint", t: "selectHint" });
  const kinds = el("datalist", { id: "map-labels" });
  const wanted = el("input", { list: "map-labels", required: true, maxlength: "200", size: "12" });
  const relabel = el("form", { class: "bar", onsubmit: trying(label) }, el("label", {}, el("span", { t: "labelAs" }), wanted, kinds),
    el("button", { t: "apply" }));
  const sendOn = el("button", { type: "button", t: "send", onclick: trying(remember) });
  const back = el("div");
  const full = el("div", { class: "split", hidden: true },
    el("div", {}, el("div", { class: "plot" }, canvas, tip), legend, note),
    el("aside", { class: "card" }, title, more, grid, relabel, sendOn, back));
  const empty = el("p", { class: "card", t: "noMaps", hidden: true });
  const node = el("div", {}, el("div", { class: "bar" },
    el("label", {}, el("span", { t: "source" }), choose), el("label", {}, el("span", { t: "colour" }), colour), ...tools,
    el("button", { type: "button", t: "whole", onclick: () => plot.fit() }),
    el("button", { type: "button", t: "inView", onclick: () => select(plot.inside(corners())) })), empty, full);
  const plot = new Plot(canvas);
  const corners = () => [[0, 0], [canvas.width, 0], [canvas.width, canvas.height], [0, canvas.height]];

  function use(key) {
    tool = key;
    for (const button of tools) button.setAttribute("aria-pressed", String(button.dataset.tool === key));
  }
  async function open(name) {
    source = sources.find((each) => each.source === name);
    const got = await get(`maps/${encodeURIComponent(name)}`);
    data = { ...got, x: column(got.x, Float32Array), y: column(got.y, Float32Array), label: column(got.label, Uint16Array),
      verdict: column(got.verdict, Uint8Array), distance: column(got.distance, Float32Array) };
    off.label.clear(); off.verdict.clear();
    plot.set(data.x, data.y, new Uint32Array(data.count));
    note.textContent = [data.axes.join(" · "), data.note].filter(Boolean).join(" — ");
    kinds.replaceChildren(...[...new Set([...data.labels, ...state.run.kinds])].map((value) => el("option", { value })));
    relabel.hidden = !source.can_label;
    sendOn.hidden = !source.can_remember;
    legends();
    select([]);
    paint();
    plot.fit();
  }
  function paint() {
    if (!data) return;
    const { distance } = data;
    let top = 0;
    for (const value of distance) if (value > top) top = value;
    const ink = packed("#808a94");
    const verdicts = { OK: packed("#44AA99"), right: packed("#44AA99"), NG: packed("#BD1F01"), wrong: packed("#BD1F01") };
    const named = by === "verdict" ? data.verdicts.map((each) => verdicts[each] ?? ink) : data.labels.map((_, i) => packed(COLOURS[i % COLOURS.length]));
    for (let i = 0; i < data.count; i++) {
      plot.colours[i] = by === "distance" ? (Number.isNaN(distance[i]) ? ink : ramp(distance[i] / (top || 1))) : named[data[by][i]];
      plot.hidden[i] = off.label.has(data.label[i]) || off.verdict.has(data.verdict[i]) ? 1 : 0;
    }
    plot.draw();
  }
  function legends() {
    const counted = (key) => { const counts = new Uint32Array(data[`${key}s`].length); for (const each of data[key]) counts[each]++; return counts; };
    const buttons = (key) => [...counted(key)].map((count, i) => [count, i]).filter(([count]) => count).map(([count, i]) => {
      const swatch = el("canvas", { width: 1, height: 1, "aria-hidden": "true" });
      const pen = swatch.getContext("2d");
      pen.fillStyle = key === "label" ? COLOURS[i % COLOURS.length] : "#808a94";
      pen.fillRect(0, 0, 1, 1);
      const button = el("button", { type: "button", "aria-pressed": "true", "data-filter": key, onclick: () => {
        if (!off[key].delete(i)) off[key].add(i);
        button.setAttribute("aria-pressed", String(!off[key].has(i)));
        paint();
      } }, ...(key === "label" ? [swatch] : []), `${data[`${key}s`][i] || "–"} (${count})`);
      return button;
    });
    const verdicts = buttons("verdict");
    legend.replaceChildren(el("span", { class: "faint", t: "label" }), ...buttons("label").slice(0, 60),
      ...(verdicts.length > 1 ? [el("span", { class: "faint", t: "verdict" }), ...verdicts] : []));
  }
  const picture = (row) => `/api/maps/${encodeURIComponent(source.source)}/points/${row}/picture`;
  function select(next) {
    rows = next;
    plot.marked.fill(0);
    for (const row of rows) plot.marked[row] = 1;
    plot.draw();
    say(title, "selected", rows.length);
    if (rows.length > SHOWN) say(more, "more", rows.length - SHOWN); else say(more, rows.length ? "" : "selectHint");
    more.hidden = rows.length > 0 && rows.length <= SHOWN;
    grid.hidden = !rows.length;
    grid.replaceChildren(...rows.slice(0, SHOWN).map((row) => {
      const caption = data.labels[data.label[row]];
      const shown = el("img", { src: picture(row), alt: `${caption} ${row}`, loading: "lazy" });
      shown.addEventListener("error", () => shown.remove());
      return el("figure", {}, shown, el("figcaption", {}, caption));
    }));
    for (const button of [sendOn, relabel.querySelector("button")]) button.disabled = !rows.length;
  }
  async function label(event) {
    event.preventDefault();
    const kept = source.source;
    const said = await post(`maps/${encodeURIComponent(kept)}/label`, { fingerprint: data.fingerprint, rows: [...rows], label: wanted.value });
    done("labelled", said.changed);
    back.replaceChildren(el("button", { type: "button", t: "undo", onclick: trying(async () => {
      await post(`labels/${said.change}/undo`);
      back.replaceChildren();
      await open(kept);
    }) }));
    await open(kept);
  }
  async function remember() {
    const said = await post(`maps/${encodeURIComponent(source.source)}/remember`, { fingerprint: data.fingerprint, rows: [...rows], label: null });
    done("sent", said.cases, said.new);
  }

  let [from, waiting, hovered] = [null, 0, -1];
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    from = plot.at(event);
    if (tool === "lasso") plot.lasso = [from];
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = plot.at(event);
    if (from && tool === "pan") { plot.move(here[0] - from[0], here[1] - from[1]); from = here; }
    else if (from) { plot.lasso.push(here); plot.draw(); }
    else hover(event, plot.near(here));
  });
  canvas.addEventListener("pointerup", () => {
    if (tool === "lasso" && plot.lasso.length > 2) select(plot.inside(plot.lasso));
    from = null;
    plot.lasso = [];
    plot.draw();
  });
  canvas.addEventListener("pointerleave", () => hover(null, -1));
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); plot.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, plot.at(event)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 40;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) plot.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") plot.zoom(1.2);
    else if (event.key === "-") plot.zoom(1 / 1.2);
    else return;
    event.preventDefault();
  });
  function hover(event, row) {
    if (row === hovered) return;
    hovered = row;
    clearTimeout(waiting);
    tip.hidden = true;
    if (row < 0) return;
    const [left, top] = [event.offsetX, event.offsetY];
    waiting = setTimeout(trying(async () => {
      const asked = source.source;
      const point = await get(`maps/${encodeURIComponent(asked)}/points/${row}`);
      if (row !== hovered || asked !== source.source) return;
      const facts = [`${word("label")}: ${point.label}`, point.verdict && `${word("verdict")}: ${point.verdict}`,
        point.distance !== null && `${word("distance")}: ${number(point.distance)}`,
        ...Object.entries(point.facts).map(([key, value]) => `${key}: ${value}`)].filter(Boolean);
      tip.replaceChildren(...(point.picture ? [el("img", { src: picture(row), alt: point.name })] : []), el("strong", {}, point.name), ...facts.map((fact) => el("div", {}, fact)));
      tip.hidden = false;
      tip.style.left = `${Math.min(left + 14, canvas.clientWidth - 240)}px`;
      tip.style.top = `${Math.max(Math.min(top + 14, canvas.clientHeight - 250), 0)}px`;
    }), 120);
  }
  const enter = trying(async () => {
    sources = (await get("maps")).maps;
    const kept = source?.source ?? sources[0]?.source;
    choose.replaceChildren(...sources.map((each) => el("option", { value: each.source }, `${each.title} (${each.count})`)));
    empty.hidden = sources.length > 0;
    full.hidden = !sources.length;
    if (!kept) return;
    choose.value = kept;
    if (!data) await open(kept);
  });
  Object.assign(canvas, { plot });
  return { node, enter };
}
