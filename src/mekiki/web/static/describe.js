// Describe view: the description of a photograph as it is generated, with the cases it cites.
import { dropZone, el, showProblem, send, state, reportErrors, upload } from "./base.js";
import { caseRow } from "./cases.js";
import { currentLanguage, setText } from "./words.js";

export function describeView() {
  const question = el("input", { maxlength: "500", size: "40" });
  const photo = el("img", { alt: "", hidden: true });
  const text = el("p", { class: "text", "aria-live": "polite" });
  const guess = el("p", { class: "guess", role: "status" });
  const speaker = el("p", { class: "faint" });
  const cited = el("ol", { class: "found small", label: "cited" });
  const uncited = el("p", { class: "faint", t: "uncited", hidden: true });
  let [photoId, reading] = [null, null];
  const ask = reportErrors(async () => {
    if (!photoId) return;
    await reading?.cancel(); // the description of the last photograph, if it is still being generated
    for (const part of [text, guess, cited, speaker]) part.replaceChildren();
    uncited.hidden = true;
    text.setAttribute("aria-busy", "true");
    const response = await send("describe", { photo: photoId, question: question.value.trim() || null, language: currentLanguage() });
    const mine = (reading = response.body.pipeThrough(new TextDecoderStream()).getReader());
    let rest = "";
    for (;;) {
      const { value, done } = await mine.read();
      if (done || mine !== reading) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const each of events) addEvent(Object.fromEntries(each.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2))));
    }
    if (mine === reading) text.removeAttribute("aria-busy");
  });
  function addEvent({ event, data }) {
    const content = JSON.parse(data || "{}");
    if (event === "text") text.append(content.text);
    else if (event === "guess") guess.textContent = `⚠ ${content.message}`;
    else if (event === "problem") showProblem(content.error);
    else if (event === "speaker") setText(speaker, `speaker ${content.method}`);
    else if (event === "cases") {
      cited.replaceChildren(...content.cases.map((each) => caseRow(each)));
      uncited.hidden = content.cases.length > 0;
    }
  }
  const zone = dropZone(async (files) => {
    const [uploaded] = (await upload("photos", files)).photos;
    if (!uploaded.photo) throw new Error(`${uploaded.file}: ${uploaded.problem}`);
    photoId = uploaded.photo;
    photo.src = `/api/photos/${photoId}/picture`;
    photo.alt = uploaded.file;
    photo.hidden = false;
    await ask();
  }, { many: false });
  const form = el("form", { class: "bar", hidden: !state.run.can.answers, onsubmit: (event) => { event.preventDefault(); ask(); } },
    el("label", {}, el("span", { t: "question" }), question), el("button", { t: "ask" }));
  return { paste: zone.paste, node: el("div", {}, el("p", { class: "card", t: "noDescriber", hidden: state.run.can.describes }), zone, form,
    el("div", { class: "split" }, el("div", { class: "card" }, el("h2", { t: "answer" }), el("div", { class: "described" }, photo, el("div", {}, guess, text, speaker))),
      el("aside", { class: "card" }, el("h2", { t: "cited" }), cited, uncited))) };
}
