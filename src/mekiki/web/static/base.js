// Shared by all views: elements, requests, and the drop zone for photographs.
import { setAriaLabel, setText } from "./words.js";

export function el(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "t") setText(node, ...[].concat(value));
    else if (name === "label") setAriaLabel(node, ...[].concat(value));
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

export function showProblem(error) {
  const box = document.getElementById("problem");
  box.textContent = error ? String(error.message || error) : "";
}
const MESSAGE_MS = 8000;
let timer = 0;
export function showMessage(key, ...args) {
  setText(document.getElementById("message"), key, ...args);
  clearTimeout(timer);
  timer = setTimeout(hideMessage, MESSAGE_MS);
}
export function hideMessage() {
  const line = document.getElementById("message");
  delete line.dataset.t;
  line.replaceChildren();
}
async function check(response) {
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error || message; } catch (error) { if (!(error instanceof SyntaxError)) throw error; }
  throw Object.assign(new Error(message), { status: response.status });
}
export const get = async (path) => (await check(await fetch(`/api/${path}`))).json();
export async function send(path, body) {
  const headers = { "X-Mekiki-CSRF": state.run.csrf };
  if (!(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body ?? {});
  }
  return check(await fetch(`/api/${path}`, { method: "POST", headers, body }));
}
export const post = async (path, body) => (await send(path, body)).json();
export const upload = (path, files) => {
  const form = new FormData();
  for (const file of files) form.append("photos", file, file.name);
  return post(path, form);
};
// Wraps an action so that its errors are shown in the line for problems.
export const reportErrors = (action) => async (...args) => {
  showProblem(null);
  try { return await action(...args); } catch (error) { showProblem(error); return undefined; }
};
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((yes, no) => entry.file(yes, no))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const entries = await new Promise((yes, no) => reader.readEntries(yes, no));
    if (!entries.length) return files;
    for (const each of entries) files.push(...(await filesOf(each)));
  }
}
const isPicture = (file) => file.type.startsWith("image/") || /\.(png|jpe?g|bmp|tiff?|webp|gif)$/i.test(file.name);

// Drop zone for photographs, which can be dropped, pasted or chosen.
export function dropZone(take, { many = true } = {}) {
  const takeFiles = reportErrors(async (files) => {
    const pictures = [...files].filter((file) => files.length === 1 || isPicture(file));
    if (pictures.length) await take(many ? pictures : pictures.slice(0, 1));
  });
  const picker = (folder) => {
    const input = el("input", { type: "file", hidden: true, multiple: many, "aria-hidden": "true", onchange: () => { takeFiles(input.files); } });
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
    if (!entries.some((entry) => entry.isDirectory)) { takeFiles(plain); return; }
    takeFiles((await Promise.all(entries.map(filesOf))).flat());
  });
  zone.paste = (event) => { if (event.clipboardData.files.length) takeFiles(event.clipboardData.files); };
  return zone;
}
