// What every view uses: elements, calls, photographs that are dropped.
import { named, say } from "./words.js";

export function el(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "t") say(node, ...[].concat(value));
    else if (name === "label") named(node, ...[].concat(value));
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
export function svg(tag, given, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
export const column = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
export const number = (value) => (value === null || Number.isNaN(value) ? "–" : Number(value).toPrecision(3));
export const state = { run: null };

export function problem(error) {
  const box = document.getElementById("problem");
  box.textContent = error ? String(error.message || error) : "";
}
const SHOWN_FOR = 8000; // milliseconds
let going = 0;
export function done(key, ...args) {
  say(document.getElementById("said"), key, ...args);
  clearTimeout(going);
  going = setTimeout(quiet, SHOWN_FOR);
}
export function quiet() {
  const line = document.getElementById("said");
  delete line.dataset.t;
  line.replaceChildren();
}
async function answer(response) {
  if (response.ok) return response;
  let said = `${response.status} ${response.statusText}`;
  try { said = (await response.json()).error || said; } catch (error) { if (!(error instanceof SyntaxError)) throw error; }
  throw Object.assign(new Error(said), { status: response.status });
}
export const get = async (path) => (await answer(await fetch(`/api/${path}`))).json();
export async function send(path, body) {
  const headers = { "X-Mekiki-CSRF": state.run.csrf };
  if (!(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body ?? {});
  }
  return answer(await fetch(`/api/${path}`, { method: "POST", headers, body }));
}
export const post = async (path, body) => (await send(path, body)).json();
export const upload = (path, files) => {
  const form = new FormData();
  for (const file of files) form.append("photos", file, file.name);
  return post(path, form);
};
// Runs an action; what goes wrong is told in the one line for it.
export const trying = (action) => async (...args) => {
  problem(null);
  try { return await action(...args); } catch (error) { problem(error); return undefined; }
};
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((yes, no) => entry.file(yes, no))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((yes, no) => reader.readEntries(yes, no));
    if (!some.length) return found;
    for (const each of some) found.push(...(await filesOf(each)));
  }
}
const isPicture = (file) => file.type.startsWith("image/") || /\.(png|jpe?g|bmp|tiff?|webp|gif)$/i.test(file.name);

// A place for photographs: dropped, pasted or picked.
export function dropZone(take, { many = true } = {}) {
  const given = trying(async (files) => {
    const pictures = [...files].filter((file) => files.length === 1 || isPicture(file));
    if (pictures.length) await take(many ? pictures : pictures.slice(0, 1));
  });
  const picker = (folder) => {
    const input = el("input", { type: "file", hidden: true, multiple: many, "aria-hidden": "true", onchange: () => { given(input.files); } });
    if (folder) input.webkitdirectory = true;
    return [input, el("button", { type: "button", t: folder ? "folder" : "files", onclick: () => input.click() })];
  };
  const zone = el("div", { class: "drop" }, el("span", { t: "dropHere" }),
    el("div", { class: "bar" }, ...picker(false), ...(many ? picker(true) : [])));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const plain = [...event.dataTransfer.files];
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) { given(plain); return; }
    given((await Promise.all(entries.map(filesOf))).flat());
  });
  zone.paste = (event) => { if (event.clipboardData.files.length) given(event.clipboardData.files); };
  return zone;
}
