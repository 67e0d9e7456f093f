// Judge view: verdict, anomaly map, nearest examples and corrections of each photograph dropped.
import { showMessage, dropZone, el, get, number, post, state, svg, reportErrors, upload } from "./base.js";
import { ramp } from "./plot.js";
import { setText } from "./words.js";

const BATCH = 10; // photographs in one request, so that the first verdicts show soon
let bins = null;

function histogram(judged) {
  const [W, H, foot] = [420, 170, 24];
  const box = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${judged.score}` });
  if (!bins || judged.score === null || judged.score === undefined) return null;
  const { edges, counts, threshold } = bins;
  const low = Math.min(edges[0], judged.score, 0);
  const high = Math.max(edges[edges.length - 1], judged.score, threshold ?? 0) * 1.04;
  const x = (value) => 6 + ((value - low) / (high - low || 1)) * (W - 12);
  const most = Math.max(...counts, 1);
  counts.forEach((count, i) => {
    const tall = ((H - foot - 36) * count) / most;
    box.append(svg("rect", { class: "bars", x: x(edges[i]), y: H - foot - tall, width: Math.max(x(edges[i + 1]) - x(edges[i]) - 0.6, 0.8), height: tall }));
  });
  const mark = (value, kind, key, y) => {
    const at = x(value);
    box.append(svg("line", { class: kind, x1: at, x2: at, y1: y, y2: H - foot }),
      setText(svg("text", { x: at > W / 2 ? at - 5 : at + 5, y: y + 11, "text-anchor": at > W / 2 ? "end" : "start" }), key));
  };
  if (threshold !== null) mark(threshold, "limit", "limit", 2);
  mark(judged.score, "here", "thisPart", 18);
  box.append(svg("line", { class: "axis", x1: 0, x2: W, y1: H - foot, y2: H - foot }),
    svg("text", { x: 6, y: H - 6 }, number(low)), svg("text", { x: W - 6, y: H - 6, "text-anchor": "end" }, number(high)));
  return box;
}
function anomalyMap(judged) {
  const canvas = el("canvas", { width: judged.width || 1, height: judged.height || 1, role: "img", "aria-label": judged.file });
  const pen = canvas.getContext("2d");
  const photo = new Image();
  const slider = el("input", { type: "range", min: "0", max: "100", value: "55" });
  let layer = null;
  if (judged.heat) {
    const { rows, columns, values } = judged.heat;
    layer = el("canvas", { width: columns, height: rows });
    const image = new ImageData(columns, rows);
    const flat = values.flat();
    const [low, high] = [Math.min(...flat), Math.max(...flat)];
    flat.forEach((value, i) => {
      const part = (value - low) / (high - low || 1);
      const colour = ramp(0.25 + 0.75 * part);
      image.data.set([colour & 255, (colour >> 8) & 255, (colour >> 16) & 255, Math.round(255 * part)], i * 4);
    });
    layer.getContext("2d").putImageData(image, 0, 0);
  }
  const draw = () => {
    pen.globalAlpha = 1;
    pen.drawImage(photo, 0, 0, canvas.width, canvas.height);
    if (!layer) return;
    pen.globalAlpha = slider.value / 100;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(layer, 0, 0, canvas.width, canvas.height);
  };
  slider.addEventListener("input", draw);
  photo.addEventListener("load", draw);
  photo.src = `/api/photos/${judged.photo}/picture`;
  return el("div", {}, canvas, layer ? el("label", { class: "wide" }, el("span", { t: "heat" }), slider) : null);
}
function example(which, key) {
  return el("figure", {}, which === null || which === undefined ? el("p", { class: "faint", t: "none" }) : el("img", { src: `/api/examples/${which}/picture`, alt: "" }), el("figcaption", { t: key }));
}
function card(judged, updateSummary, correction = null) {
  const node = el("article", { class: "card", "data-verdict": judged.verdict });
  const replace = (next, correction) => { node.replaceWith(card(next, updateSummary, correction)); updateSummary(); };
  if (!judged.photo) {
    node.append(el("h2", {}, judged.file), el("p", { class: "verdict unreadable", t: "unreadable" }), el("p", {}, judged.problem));
    return node;
  }
  const kind = el("input", { list: "kinds", maxlength: "100", size: "10" });
  const correct = (label) => reportErrors(async () => {
    const result = await post("teach", { photo: judged.photo, label: label() });
    const { beyond_copies: beyond, ng_parts: parts, missed_before: missed, missed_after: still } = result.effect;
    const effect = `taught${beyond ? "Alike" : "Copies"}${parts ? "Weighed" : ""}`;
    showMessage(effect, result.lesson.number, result.before, result.after.verdict, parts, missed, still);
    replace({ ...result.after, file: judged.file, undone: judged }, result.lesson.number);
  });
  const correctionNumber = correction ?? judged.lesson;
  const undo = el("button", { type: "button", class: "undo", t: "undo", onclick: reportErrors(async () => {
    await post(`teach/${correctionNumber}/undo`);
    showMessage("undone");
    // The verdict is the one before the correction; the card of an older correction does not have it.
    if (judged.undone) replace({ ...judged.undone });
    else undo.remove();
  }) });
  const keep = el("button", { type: "button", class: "keep", t: "keep", onclick: reportErrors(async () => {
    const label = judged.verdict === "OK" ? "OK" : kind.value.trim() || judged.kind;
    const result = await post("remember", { photos: [{ photo: judged.photo, label }] });
    showMessage("sent", result.cases, result.new);
  }) });
  node.append(el("h2", {}, judged.file), el("div", { class: "judged" }, anomalyMap(judged),
    el("div", {}, el("p", { class: `verdict ${judged.verdict}` }, judged.verdict, judged.kind ? el("small", {}, judged.kind) : null),
      el("p", { t: ["score", number(judged.score), number(judged.p)] }), histogram(judged),
      el("p", { class: "faint", t: ["hist", number(judged.score), number(bins?.threshold ?? null)] }),
      judged.why ? el("p", { class: "faint", t: [`why ${judged.because}`, judged.why.replace(/^(taught: |like )/, "")] }) : null, judged.note ? el("p", { class: "faint" }, judged.note) : null),
    el("div", {}, el("div", { class: "pair" }, example(judged.ok_example, "nearOk"), example(judged.ng_example, "nearNg")),
      el("h3", { t: "wrong" }),
      el("div", { class: "bar" }, el("button", { type: "button", class: "teach-ok", t: "isOk", onclick: correct(() => "OK") }), correctionNumber ? undo : null),
      el("div", { class: "bar" }, el("button", { type: "button", class: "teach-ng", t: "isNg", onclick: correct(() => (kind.value.trim() ? `NG:${kind.value.trim()}` : "NG")) }),
        el("label", {}, el("span", { t: "kind" }), kind)),
      keep)));
  return node;
}
export function judgeView() {
  const results = el("div", { "aria-live": "polite" });
  const kinds = el("datalist", { id: "kinds" });
  const empty = el("p", { class: "card", t: "noJudge", hidden: state.run.can.calibrated });
  const counted = el("span", { role: "status" });
  const only = el("button", { type: "button", "aria-pressed": "false", t: "onlyNg", onclick: () => {
    only.setAttribute("aria-pressed", String(only.getAttribute("aria-pressed") !== "true"));
    updateSummary();
  } });
  const summary = el("div", { class: "bar", hidden: true }, counted, only);
  function updateSummary() {
    const all = [...results.querySelectorAll("article")];
    const of = (verdict) => all.filter((each) => each.dataset.verdict === verdict).length;
    summary.hidden = !all.length;
    setText(counted, "summary", all.length, of("OK"), of("NG"), of("unreadable"));
    for (const each of all) each.hidden = only.getAttribute("aria-pressed") === "true" && each.dataset.verdict === "OK";
  }
  const zone = dropZone(async (files) => {
    bins ??= await get("judge/histogram");
    const most = Math.min(state.run.limits.files, BATCH);
    let last = null; // cards are in the order of the photographs, the newest drop first
    for (let i = 0; i < files.length; i += most) {
      const waiting = el("p", { t: ["working", i, files.length] });
      if (last) last.after(waiting); else results.prepend(waiting);
      try {
        const result = await upload("judge?cases=0", files.slice(i, i + most));
        const cards = result.verdicts.map((each) => card(each, updateSummary));
        waiting.before(...cards);
        last = cards[cards.length - 1];
      } finally { waiting.remove(); }
      updateSummary();
    }
  });
  zone.hidden = !state.run.can.calibrated;
  kinds.append(...state.run.kinds.map((value) => el("option", { value })));
  const { en, ja } = state.run.guarantee;
  const guarantee = el("p", { class: "faint guarantee", hidden: !en, t: ["both", en ?? "", ja ?? ""] });
  return { node: el("div", {}, empty, zone, guarantee, kinds, summary, results), paste: zone.paste };
}
