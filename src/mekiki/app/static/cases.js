// Past cases, found by photograph or words, and thumbs that move them.
import { done, dropZone, el, get, number, post, trying, upload } from "./base.js";
import { word } from "./words.js";

export function casesView() {
  let asked = null;
  const given = new Map(); // case → {good, go}, for what is asked now
  const text = el("input", { type: "search", maxlength: "500", required: true });
  const list = el("ol", { class: "found" });
  const log = el("ul", { class: "log", tabindex: "0", label: "history" });
  const empty = el("p", { class: "card", t: "noCases", hidden: true });
  const hint = el("p", { class: "faint", t: "searchHint" });
  const shown = el("img", { alt: "", hidden: true, width: 96 });
  const zone = dropZone(async (files) => {
    const [photo] = (await upload("photos", files)).photos;
    if (!photo.photo) throw new Error(photo.problem);
    shown.src = `/api/photos/${photo.photo}/picture`;
    shown.alt = photo.file;
    shown.hidden = false;
    await ask({ photo: photo.photo });
  }, { many: false });
  const form = el("form", { class: "bar", onsubmit: trying(async (event) => {
    event.preventDefault();
    shown.hidden = true;
    await ask({ text: text.value });
  }) }, el("label", {}, el("span", { t: "words" }), text), el("button", { t: "search" }));

  async function ask(query) {
    asked = query;
    given.clear();
    list.replaceChildren();
    await refresh();
  }
  async function refresh() {
    const { found } = await post("search", { ...asked, k: 10 });
    hint.hidden = true;
    const before = new Map([...list.children].map((item) => [item.dataset.id, item.getBoundingClientRect().top]));
    list.replaceChildren(...found.map(row));
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const item of list.children) {
      const moved = (before.get(item.dataset.id) ?? item.getBoundingClientRect().top) - item.getBoundingClientRect().top;
      if (moved) item.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
    }
  }
  const thumb = (found, good) => el("button", { type: "button", label: [good ? "up" : "down", found.label], class: good ? "up" : "down",
    "aria-pressed": String(given.get(found.id)?.good === good), onclick: trying(async () => {
      const old = given.get(found.id);
      if (old) await post(`feedback/${old.go}/undo`);
      given.delete(found.id);
      if (old?.good !== good) {
        const said = await post("feedback", { ...asked, good: good ? [found.id] : [], bad: good ? [] : [found.id] });
        given.set(found.id, { good, go: said.feedback[0].go });
      }
      await Promise.all([refresh(), history()]);
      list.querySelector(`[data-id="${CSS.escape(found.id)}"] .${good ? "up" : "down"}`)?.focus();
    }) }, good ? "👍" : "👎");
  function row(found) {
    const picture = el("img", { src: `/api/cases/${encodeURIComponent(found.id)}/picture`, alt: found.label, loading: "lazy" });
    return el("li", { "data-id": found.id }, el("span", { class: "rank" }, String(found.rank)), picture,
      el("div", { class: "what" }, el("strong", {}, found.label || "–"), el("div", {}, found.note), el("div", { class: "faint" }, `${word("distance")} ${number(found.distance)}${found.shift ? ` (${found.shift > 0 ? "+" : ""}${number(found.shift)})` : ""} · ${found.image.split(/[\\/]/).pop()} · ${found.who} · ${found.time.slice(0, 10)}`)),
      thumb(found, true), thumb(found, false));
  }
  async function history() {
    const { feedback } = await get("feedback");
    for (const [id, each] of given) if (feedback.some((line) => line.go === each.go && line.undone)) given.delete(id);
    const goes = [...new Map(feedback.map((line) => [line.go, line])).values()].reverse();
    log.replaceChildren(...goes.map((line) => el("li", {},
      el("div", { class: line.undone ? "undone" : "" }, `${feedback.filter((each) => each.go === line.go).map((each) => (each.good ? "👍" : "👎")).join("")} ${line.asked.split(/[\\/]/).pop()} → ${line.case.slice(0, 12)}`),
      el("div", { class: "faint" }, `${line.who} · ${line.when.slice(0, 16).replace("T", " ")} `),
      line.undone ? el("span", { class: "faint", t: "undone" }) : el("button", { type: "button", class: "undo", t: "undo", onclick: trying(async () => {
        await post(`feedback/${line.go}/undo`);
        done("undone");
        await history();
        if (asked) await refresh();
      }) }))));
    if (!goes.length) log.append(el("li", { class: "faint", t: "noHistory" }));
  }
  const enter = trying(async () => {
    const stats = await get("cases");
    empty.hidden = Boolean(stats.images || stats.notes);
    form.hidden = !stats.notes;
    await history();
  });
  return { enter, paste: zone.paste, node: el("div", {}, empty, el("div", { class: "split" },
    el("div", {}, zone, form, el("div", { class: "card" }, shown, hint, list)), el("aside", { class: "card" }, el("h2", { t: "history" }), log))) };
}
