// Map view: vectors as points; filter, select with the lasso, relabel, save as cases.
import { column, showMessage, el, get, number, post, state, reportErrors } from "./base.js";
import { COLOURS, Plot, packed, ramp, swatch } from "./plot.js";
import { pointing } from "./pointing.js";
import { setText, text } from "./words.js";

const SHOWN = 60;
const FILTERS = 60;
const GREY = "#808a94";
const VERDICTS = { OK: "#44AA99", right: "#44AA99", NG: "#BD1F01", wrong: "#BD1F01" };

export function mapView() {
  let [sources, source, data, rows, tool, by] = [[], null, null, [], "pan", "label"];
  const off = { label: new Set(), verdict: new Set() };
  const choose = el("select", { id: "map-source", onchange: reportErrors(() => open(choose.value)) });
  const colour = el("select", { id: "map-colour", onchange: () => { by = colour.value; legends(); paint(); } },
    ...["label", "distance", "verdict"].map((key) => el("option", { value: key, t: key })));
  const tools = ["pan", "lasso"].map((key) => el("button", { type: "button", "aria-pressed": String(key === "pan"), t: key, "data-tool": key, onclick: () => use(key) }));
  const canvas = el("canvas", { tabindex: "0", role: "application", label: "mapLabel" });
  const tip = el("div", { class: "tip", hidden: true });
  const legend = el("div", { class: "legend" });
  const note = el("p", { class: "faint" });
  const title = el("h2", { t: ["selected", 0] });
  const grid = el("div", { class: "grid", tabindex: "0", role: "group", label: "selection" });
  const more = el("p", { class: "faint", t: "selectHint" });
  const kinds = el("datalist", { id: "map-labels" });
  const wanted = el("input", { list: "map-labels", required: true, maxlength: "200", size: "12" });
  const relabel = el("form", { class: "bar", onsubmit: reportErrors(label) }, el("label", {}, el("span", { t: "labelAs" }), wanted, kinds),
    el("button", { t: "apply" }));
  const sendOn = el("button", { type: "button", class: "send", t: "send", onclick: reportErrors(remember) });
  const back = el("div");
  const plot = new Plot(canvas);
  const corners = () => [[0, 0], [canvas.width, 0], [canvas.width, canvas.height], [0, canvas.height]];
  const full = el("div", { class: "split", hidden: true },
    el("div", {}, el("div", { class: "plot" }, canvas, tip, el("div", { class: "zoom" },
      el("button", { type: "button", label: "zoomIn", onclick: () => plot.zoom(1.4) }, "+"),
      el("button", { type: "button", label: "zoomOut", onclick: () => plot.zoom(1 / 1.4) }, "−"))), legend, note),
    el("aside", { class: "card" }, title, more, grid, relabel, sendOn, back));
  const empty = el("p", { class: "card", t: "noMaps", hidden: true });
  const bar = el("div", { class: "bar" }, el("label", {}, el("span", { t: "source" }), choose), el("label", {}, el("span", { t: "colour" }), colour),
    el("span", { class: "group" }, ...tools),
    el("button", { type: "button", t: "whole", onclick: () => plot.fit() }),
    el("button", { type: "button", t: "inView", onclick: () => select(plot.inside(corners())) }));
  const node = el("div", {}, bar, empty, full);

  function use(key) {
    tool = key;
    canvas.classList.toggle("lassoing", key === "lasso");
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
    kinds.replaceChildren(...[...new Set([...data.labels, ...state.run.kinds])].filter(Boolean).map((value) => el("option", { value })));
    relabel.hidden = !source.can_label;
    sendOn.hidden = !source.can_remember;
    back.replaceChildren();
    legends();
    select([]);
    paint();
    plot.fit();
  }
  const inkOf = (key, i) => {
    if (key === "label") return data.labels[i] ? COLOURS[i % COLOURS.length] : GREY;
    return VERDICTS[data.verdicts[i]] ?? GREY;
  };
  const farthest = () => { let top = 0; for (const value of data.distance) if (value > top) top = value; return top; };
  function paint() {
    if (!data) return;
    const { distance } = data;
    const top = farthest() || 1;
    const grey = packed(GREY);
    const named = by === "distance" ? [] : data[`${by}s`].map((_, i) => packed(inkOf(by, i)));
    for (let i = 0; i < data.count; i++) {
      // The square root spreads small distances, where most points are.
      plot.colours[i] = by === "distance" ? (Number.isNaN(distance[i]) ? grey : ramp(Math.sqrt(distance[i] / top))) : named[data[by][i]];
      plot.hidden[i] = off.label.has(data.label[i]) || off.verdict.has(data.verdict[i]) ? 1 : 0;
    }
    plot.draw();
  }
  function legends() {
    const counted = (key) => { const counts = new Uint32Array(data[`${key}s`].length); for (const each of data[key]) counts[each]++; return counts; };
    const buttons = (key) => [...counted(key)].map((count, i) => [count, i]).filter(([count]) => count).map(([count, i]) => {
      const button = el("button", { type: "button", "aria-pressed": String(!off[key].has(i)), "data-filter": key, onclick: () => {
        if (!off[key].delete(i)) off[key].add(i);
        button.setAttribute("aria-pressed", String(!off[key].has(i)));
        paint();
      } }, ...(by === key ? [swatch(inkOf(key, i))] : []), `${data[`${key}s`][i] || "–"} (${count.toLocaleString()})`);
      return button;
    });
    const verdicts = buttons("verdict");
    const scale = by === "distance" && farthest() > 0 ? [el("span", { class: "faint" }, "0"), el("span", { class: "ramp", role: "img", "aria-label": data.distance_name }),
      el("span", { class: "faint" }, `${number(farthest())} ${data.distance_name}`)] : [];
    legend.replaceChildren(el("span", { class: "faint", t: "label" }), ...buttons("label").slice(0, FILTERS),
      ...(verdicts.length > 1 ? [el("span", { class: "faint", t: "verdict" }), ...verdicts] : []), ...scale);
  }
  const picture = (row) => `/api/maps/${encodeURIComponent(source.source)}/points/${row}/picture`;
  function select(next) {
    rows = next;
    plot.marked.fill(0);
    for (const row of rows) plot.marked[row] = 1;
    plot.draw();
    setText(title, "selected", rows.length);
    if (rows.length > SHOWN) setText(more, "more", rows.length - SHOWN); else setText(more, rows.length ? "" : "selectHint");
    more.hidden = rows.length > 0 && rows.length <= SHOWN;
    grid.hidden = !rows.length;
    grid.replaceChildren(...rows.slice(0, SHOWN).map((row) => {
      const caption = data.labels[data.label[row]] || "–";
      const shown = el("img", { src: picture(row), alt: `${caption} ${row}`, loading: "lazy" });
      shown.addEventListener("error", () => shown.remove());
      return el("figure", {}, ...(source.pictures ? [shown] : []), el("figcaption", {}, source.pictures ? caption : `${caption} ${row}`));
    }));
    for (const button of [sendOn, relabel.querySelector("button")]) button.disabled = !rows.length;
  }
  async function label(event) {
    event.preventDefault();
    const name = source.source;
    const result = await post(`maps/${encodeURIComponent(name)}/label`, { fingerprint: data.fingerprint, rows: [...rows], label: wanted.value });
    showMessage("labelled", result.changed);
    await open(name);
    back.replaceChildren(el("button", { type: "button", class: "undo", t: "undo", onclick: reportErrors(async () => {
      await post(`labels/${result.change}/undo`);
      await open(name);
      showMessage("undone");
    }) }));
  }
  async function remember() {
    const result = await post(`maps/${encodeURIComponent(source.source)}/remember`, { fingerprint: data.fingerprint, rows: [...rows], label: null });
    showMessage("sent", result.cases, result.new);
    await refreshSources();
  }

  let [waiting, hovered] = [0, -1];
  pointing(plot, { tool: () => tool, onLasso: (line) => select(plot.inside(line)), onPoint: hover });
  function hover(event, row) {
    if (row === hovered) return;
    hovered = row;
    clearTimeout(waiting);
    tip.hidden = true;
    if (row < 0) return;
    const [left, top] = [event.offsetX, event.offsetY];
    waiting = setTimeout(reportErrors(async () => {
      const asked = source.source;
      const point = await get(`maps/${encodeURIComponent(asked)}/points/${row}`);
      if (row !== hovered || asked !== source.source) return;
      const facts = [`${text("label")}: ${point.label || "–"}`, point.verdict && `${text("verdict")}: ${point.verdict}`,
        point.distance !== null && `${text("distance")}: ${number(point.distance)}`,
        ...Object.entries(point.facts).filter(([, value]) => value).map(([key, value]) => `${key}: ${value.split(/[\\/]/).pop()}`)].filter(Boolean);
      tip.replaceChildren(...(point.picture ? [el("img", { src: picture(row), alt: point.name })] : []), el("strong", {}, point.name.split(/[\\/]/).pop()), ...facts.map((fact) => el("div", {}, fact)));
      tip.hidden = false;
      tip.style.left = `${Math.max(Math.min(left + 14, canvas.clientWidth - tip.offsetWidth - 8), 4)}px`;
      tip.style.top = `${Math.max(Math.min(top + 14, canvas.clientHeight - 250), 4)}px`;
    }), 120);
  }
  async function refreshSources() {
    sources = (await get("maps")).maps;
    const selected = choose.value || source?.source;
    choose.replaceChildren(...sources.map((each) => el("option", { value: each.source }, `${each.title} (${each.count.toLocaleString()})`)));
    if (sources.some((each) => each.source === selected)) choose.value = selected;
  }
  const enter = reportErrors(async () => {
    await refreshSources();
    empty.hidden = sources.length > 0;
    bar.hidden = full.hidden = !sources.length;
    const now = sources.find((each) => each.source === choose.value);
    if (now && data?.fingerprint !== now.fingerprint) await open(now.source);
  });
  Object.assign(canvas, { plot });
  return { node, enter };
}
