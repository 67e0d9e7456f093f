import { el, get, showProblem, hideMessage, state } from "./base.js";
import { currentLanguage, setLanguage } from "./words.js";
import { mapView } from "./map.js";
import { judgeView } from "./judge.js";
import { casesView } from "./cases.js";
import { trainingView } from "./training.js";
import { describeView } from "./describe.js";

const VIEWS = { map: mapView, judge: judgeView, cases: casesView, training: trainingView, describe: describeView };
const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
const built = {};
let shown = null;

function show() {
  const name = location.hash.slice(2) in VIEWS ? location.hash.slice(2) : "map";
  showProblem(null);
  hideMessage();
  for (const tab of tabs.children) tab.toggleAttribute("aria-current", tab.dataset.view === name);
  tabs.querySelector("[aria-current]").setAttribute("aria-current", "page");
  built[name] ??= VIEWS[name]();
  shown = built[name];
  main.replaceChildren(shown.node);
  setLanguage(currentLanguage());
  shown.enter?.();
}
function theme(next) {
  if (next) document.documentElement.dataset.theme = next;
  dispatchEvent(new Event("themed"));
}
function nameLanguageButton() {
  const button = document.getElementById("language");
  button.textContent = currentLanguage() === "ja" ? "English" : "日本語";
  button.lang = currentLanguage() === "ja" ? "en" : "ja";
}
document.getElementById("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "ja" ? "en" : "ja");
  nameLanguageButton();
});
document.getElementById("theme").addEventListener("click", () => {
  const dark = (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  localStorage.setItem("mekiki.theme", dark ? "light" : "dark");
  theme(dark ? "light" : "dark");
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(null));
document.addEventListener("paste", (event) => shown?.paste?.(event));
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
for (const name of Object.keys(VIEWS)) tabs.append(el("a", { href: `#/${name}`, "data-view": name, t: name }));
theme(localStorage.getItem("mekiki.theme"));
nameLanguageButton();
setLanguage(currentLanguage());
try {
  state.run = await get("run");
  document.getElementById("run-name").textContent = state.run.name;
  addEventListener("hashchange", show);
  show();
} catch (error) { showProblem(error); }
