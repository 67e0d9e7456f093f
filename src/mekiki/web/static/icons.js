// Icons as SVG paths, independent of the installed fonts.
import { svg } from "./base.js";

const THUMB = "M7 10v10H3V10h4zm2 10V9.6l4.2-7.1c1.5.2 2.4 1.4 2 2.9L14.3 9H20a1.7 1.7 0 0 1 1.7 2l-1.3 7.4A2 2 0 0 1 18.4 20H9z";

export function thumbIcon(good) {
  return svg("svg", { viewBox: "0 0 24 24", class: good ? "icon" : "icon turned", "aria-hidden": "true" }, svg("path", { d: THUMB }));
}
