// A photograph in words, as they come, with the cases they lean on.
import { dropZone, el, problem, send, state, trying, upload } from "./base.js";
import { caseRow } from "./cases.js";
import { current, say } from "./words.js";

export function describeView() {
  const question = el("input", { maxlength: "500", size: "40" });
  const photo = el("img", { alt: "", hidden: true });
  const text = el("p", { class: "text", "aria-live": "polite" });
  const guess = el("p", { class: "guess", role: "status" });
  const speaker = el("p", { class: "faint" });
  const cited = el("ol", { class: "found small", label: "cited" });
  const uncited = el("p", { class: "faint", t: "uncited", hidden: true });
  let [kept, reading] = [null, null];
  const ask = trying(async () => {
    if (!kept) return;
    await reading?.cancel(); // what is still being said of the last photograph
    for (const part of [text, guess, cited, speaker]) part.replaceChildren();
    uncited.hidden = true;
    text.setAttribute("aria-busy", "true");
    const response = await send("describe", { photo: kept, question: question.value.trim() || null, language: current() });
    const mine = (reading = response.body.pipeThrough(new TextDecoderStream()).getReader());
    let rest = "";
    for (;;) {
      const { value, done } = await mine.read();
      if (done || mine !== reading) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const each of events) take(Object.fromEntries(each.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2))));
    }
    if (mine === reading) text.removeAttribute("aria-busy");
  });
  function take({ event, data }) {
    const said = JSON.parse(data || "{}");
    if (event === "text") text.append(said.text);
    else if (event === "guess") guess.textContent = `⚠ ${said.message}`;
    else if (event === "problem") problem(said.error);
    else if (event === "speaker") say(speaker, `speaker ${said.method}`);
    else if (event === "cases") {
      cited.replaceChildren(...said.cases.map((each) => caseRow(each)));
      uncited.hidden = said.cases.length > 0;
    }
  }
  const zone = dropZone(async (files) => {
    const [got] = (await upload("photos", files)).photos;
    if (!got.photo) throw new Error(`${got.file}: ${got.problem}`);
    kept = got.photo;
    photo.src = `/api/photos/${kept}/picture`;
    photo.alt = got.file;
    photo.hidden = false;
    await ask();
  }, { many: false });
  const form = el("form", { class: "bar", hidden: !state.run.can.answers, onsubmit: (event) => { event.preventDefault(); ask(); } },
    el("label", {}, el("span", { t: "question" }), question), el("button", { t: "ask" }));
  return { paste: zone.paste, node: el("div", {}, el("p", { class: "card", t: "noDescriber", hidden: state.run.can.describes }), zone, form,
    el("div", { class: "split" }, el("div", { class: "card" }, el("h2", { t: "answer" }), el("div", { class: "described" }, photo, el("div", {}, guess, text, speaker))),
      el("aside", { class: "card" }, el("h2", { t: "cited" }), cited, uncited))) };
}
