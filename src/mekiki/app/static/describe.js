// A photograph in words, as they come, with the cases they lean on.
import { dropZone, el, problem, send, state, trying, upload } from "./base.js";
import { current } from "./words.js";

export function describeView() {
  const question = el("input", { maxlength: "500", size: "40" });
  const photo = el("img", { alt: "", hidden: true, width: 240 });
  const text = el("p", { class: "text", "aria-live": "polite" });
  const guess = el("p", { class: "guess" });
  const cited = el("ol", { class: "found" });
  let kept = null;
  const ask = trying(async () => {
    if (!kept) return;
    for (const part of [text, guess, cited]) part.replaceChildren();
    const response = await send("describe", { photo: kept, question: question.value || null, language: current() });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const each of events) take(Object.fromEntries(each.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2))));
    }
  });
  function take({ event, data }) {
    const said = JSON.parse(data || "{}");
    if (event === "text") text.append(said.text);
    else if (event === "guess") guess.textContent = said.message;
    else if (event === "problem") problem(said.error);
    else if (event === "cases") cited.replaceChildren(...said.cases.map((each) => el("li", {}, el("img", { src: `/api/cases/${encodeURIComponent(each.id)}/picture`, alt: each.label }), el("div", { class: "what" }, el("strong", {}, each.label), el("div", {}, each.note)))));
  }
  const zone = dropZone(async (files) => {
    const [got] = (await upload("photos", files)).photos;
    if (!got.photo) throw new Error(got.problem);
    kept = got.photo;
    photo.src = `/api/photos/${kept}/picture`;
    photo.alt = got.file;
    photo.hidden = false;
    await ask();
  }, { many: false });
  return { paste: zone.paste, node: el("div", {}, el("p", { class: "card", t: "noDescriber", hidden: state.run.can.describes }), zone,
    el("form", { class: "bar", onsubmit: (event) => { event.preventDefault(); ask(); } }, el("label", {}, el("span", { t: "question" }), question), el("button", { t: "ask" })),
    el("div", { class: "split" }, el("div", { class: "card" }, el("h2", { t: "answer" }), guess, text, photo), el("aside", { class: "card" }, el("h2", { t: "cited" }), cited))) };
}
