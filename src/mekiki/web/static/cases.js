// Cases view: search by photograph or text, and feedback that re-ranks the result.
import { showMessage, dropZone, el, get, number, post, reportErrors, upload } from "./base.js";
import { thumbIcon } from "./icons.js";

export const fileOf = (path) => path.split(/[\\/]/).pop();

// Row of one past case; `more` elements are added at its end.
export function caseRow(found, ...more) {
  const picture = el("img", { src: `/api/cases/${encodeURIComponent(found.id)}/picture`, alt: found.label, loading: "lazy" });
  picture.addEventListener("error", () => picture.remove());
  const moved = found.shift ? ` (${found.shift > 0 ? "+" : "−"}${number(Math.abs(found.shift))})` : "";
  return el("li", { "data-id": found.id }, el("span", { class: "rank" }, String(found.rank)), picture,
    el("div", { class: "what" }, el("strong", {}, found.label || "–"), el("div", {}, found.note),
      el("div", { class: "faint" }, el("span", { t: "distance" }), ` ${number(found.distance)}${moved} · ${[fileOf(found.image), found.who, found.time.slice(0, 10)].filter(Boolean).join(" · ")}`)),
    ...more);
}

export function casesView() {
  let currentQuery = null;
  const thumbs = new Map(); // case → {good, go}, for the current query
  const text = el("input", { type: "search", maxlength: "500", required: true });
  const list = el("ol", { class: "found", label: "found" });
  const log = el("ul", { class: "log", tabindex: "0", label: "history" });
  const empty = el("p", { class: "card", t: "noCases", hidden: true });
  const hint = el("p", { class: "faint", t: "searchHint" });
  const shown = el("img", { alt: "", hidden: true });
  const query = el("div", { class: "query", hidden: true }, shown, el("div", {}, el("div", { class: "faint", t: "asked" }), el("strong", { class: "name" })));
  const zone = dropZone(async (files) => {
    const [photo] = (await upload("photos", files)).photos;
    if (!photo.photo) throw new Error(`${photo.file}: ${photo.problem}`);
    shown.src = `/api/photos/${photo.photo}/picture`;
    shown.alt = photo.file;
    shown.hidden = false;
    await ask({ photo: photo.photo }, photo.file);
  }, { many: false });
  const form = el("form", { class: "bar", hidden: true, onsubmit: reportErrors(async (event) => {
    event.preventDefault();
    shown.hidden = true;
    await ask({ text: text.value }, text.value);
  }) }, el("label", {}, el("span", { t: "words" }), text), el("button", { t: "search" }));

  async function ask(what, name) {
    currentQuery = what;
    thumbs.clear();
    list.replaceChildren();
    query.hidden = false;
    query.querySelector(".name").textContent = name;
    await refresh();
  }
  // Search again, animate the rows that moved, and return how many did.
  async function refresh() {
    const { found } = await post("search", { ...currentQuery, k: 10 });
    hint.hidden = true;
    const before = new Map([...list.children].map((item, i) => [item.dataset.id, [i, item.getBoundingClientRect().top]]));
    list.replaceChildren(...found.map((each) => caseRow(each, thumb(each, true), thumb(each, false))));
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let moved = 0;
    [...list.children].forEach((item, i) => {
      const [place, top] = before.get(item.dataset.id) ?? [-1, 0];
      if (place !== i) moved++;
      const far = top - item.getBoundingClientRect().top;
      if (place >= 0 && far && !still) item.animate([{ transform: `translateY(${far}px)` }, { transform: "none" }], { duration: 400, easing: "ease-out" });
    });
    return before.size ? moved : 0;
  }
  const thumb = (found, good) => el("button", { type: "button", label: [good ? "up" : "down", found.label || found.id.slice(0, 8)], class: good ? "thumb up" : "thumb down",
    "aria-pressed": String(thumbs.get(found.id)?.good === good), onclick: reportErrors(async () => {
      const old = thumbs.get(found.id);
      if (old) await post(`feedback/${old.go}/undo`);
      thumbs.delete(found.id);
      if (old?.good !== good) {
        const result = await post("feedback", { ...currentQuery, good: good ? [found.id] : [], bad: good ? [] : [found.id] });
        thumbs.set(found.id, { good, go: result.feedback[0].go });
      }
      const [moved] = await Promise.all([refresh(), history()]);
      showMessage(moved ? "moved" : "unmoved", moved);
      list.querySelector(`[data-id="${CSS.escape(found.id)}"] .${good ? "up" : "down"}`)?.focus();
    }) }, thumbIcon(good));
  async function history() {
    const { feedback } = await get("feedback");
    for (const [id, each] of thumbs) if (feedback.some((line) => line.go === each.go && line.undone)) thumbs.delete(id);
    const goes = [...new Map(feedback.map((line) => [line.go, line])).values()].reverse();
    log.replaceChildren(...goes.map((line) => el("li", {},
      el("div", { class: line.undone ? "entry undone" : "entry" }, ...feedback.filter((each) => each.go === line.go).map((each) => thumbIcon(each.good)),
        el("span", {}, `${fileOf(line.asked)} → ${line.case.slice(0, 12)}`)),
      el("div", { class: "bar faint" }, el("span", {}, `${line.who} · ${line.when.slice(0, 16).replace("T", " ")}`),
        line.undone ? el("span", { t: "undone" }) : el("button", { type: "button", class: "undo", t: "undo", onclick: reportErrors(async () => {
          await post(`feedback/${line.go}/undo`);
          await history();
          if (currentQuery) await refresh();
          showMessage("undone");
        }) })))));
    if (!goes.length) log.append(el("li", { class: "faint", t: "noHistory" }));
  }
  const enter = reportErrors(async () => {
    const stats = await get("cases");
    empty.hidden = Boolean(stats.images || stats.notes);
    form.hidden = !stats.notes;
    await history();
  });
  return { enter, paste: zone.paste, node: el("div", {}, empty, el("div", { class: "split" },
    el("div", {}, zone, form, el("div", { class: "card" }, query, hint, list)), el("aside", { class: "card" }, el("h2", { t: "history" }), log))) };
}
