"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const tip = document.getElementById("tip");
  const hidden = new Map(); // plot id -> set of class numbers that the reader has switched off
  const marks = { circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", "triangle-down": "▼", cross: "✚", x: "✖",
    "triangle-left": "◀", "triangle-right": "▶", star: "★" };
  // Plotly reads a few tags in its texts, so everything a person named is escaped before it gets there.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // Cut in the middle: names of classes often differ in their last letters only.
  const short = (text, most) => (text.length > most ? text.slice(0, Math.ceil((most - 1) / 2)) + "…" + text.slice(-Math.floor((most - 1) / 2)) : text);
  const number = (value, digits = 4) => (value === null ? "–" : String(Number(value.toPrecision(digits))));
  const percent = (share) => (share > 0 && share < 0.0005 ? "<0.1" : (100 * share).toFixed(1)) + " %";

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const theme = () => ({ card: css("--card"), ink: css("--ink"), faint: css("--faint"), grid: css("--grid"), line: css("--line"),
    accent: css("--accent"), empty: css("--void"), dark: isDark() });

  const hasWebGL = (() => {
    try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; }
  })();
  // Browsers keep about 16 WebGL contexts and a scatter takes three, so a page with many falls back to SVG.
  let scatterType = hasWebGL && data.plots.filter((p) => p.kind === "scatter").length <= 3 ? "scattergl" : "scatter";

  function base(look, extra) {
    const axis = { gridcolor: look.grid, linecolor: look.line, zeroline: false, tickcolor: look.line, automargin: true, showline: true };
    return { axis, layout: Object.assign({
      paper_bgcolor: look.card, plot_bgcolor: look.card, font: { color: look.ink, size: 13, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 56, r: 14, t: 14, b: 48 }, showlegend: false, hoverlabel: { bgcolor: look.card, bordercolor: look.line, font: { color: look.ink } },
      dragmode: false,
    }, extra) };
  }

  const draw = {
    scatter(plot, look) {
      const off = hidden.get(plot.target);
      // One trace in a shuffled order: drawn class by class, the last class would cover the others.
      const rows = plot.order.filter((i) => !off.has(plot.label[i]));
      const style = (key) => rows.map((i) => data.classes[plot.label[i]][key]);
      const size = plot.x.length <= 500 ? 9 : plot.x.length <= 1500 ? 7 : 5.5;
      const traces = [{
        type: scatterType, mode: "markers", x: rows.map((i) => plot.x[i]), y: rows.map((i) => plot.y[i]), customdata: rows, hoverinfo: "none",
        marker: { color: style("colour"), symbol: style("symbol"), size, opacity: 0.8, line: { color: look.card, width: 0.5 } },
      }];
      const { axis, layout } = base(look, { hovermode: "closest", hoverdistance: 24, dragmode: window.innerWidth < 700 ? false : "zoom" });
      layout.xaxis = { ...axis, title: { text: plain(plot.axes[0]) }, range: plot.range ? plot.range[0] : plot.frame[0], constrain: "domain" };
      layout.yaxis = { ...axis, title: { text: plain(plot.axes[1]) }, range: plot.range ? plot.range[1] : plot.frame[1], scaleanchor: "x", constrain: "domain" };
      layout.annotations = labels(plot, look);
      return { traces, layout, tools: true };
    },

    loss(plot, look) {
      const two = plot.panels.length > 1;
      const { axis, layout } = base(look, { hovermode: "x unified", showlegend: true, legend: { orientation: "h", x: 1, xanchor: "right", y: 1.01, yanchor: "bottom" }, margin: { l: 60, r: 14, t: 40, b: 48 } });
      const traces = [];
      const most = Math.max(...plot.epoch), least = Math.min(...plot.epoch);
      layout.xaxis = { ...axis, title: { text: "epoch" }, range: [least - 0.6, most + 0.6], dtick: Math.max(1, Math.ceil((most - least) / 12)),
        tick0: least, fixedrange: true, anchor: two ? "y2" : "y", hoverformat: "d" };
      plot.panels.forEach((panel, place) => {
        const which = place ? "2" : "";
        layout["yaxis" + which] = { ...axis, title: { text: panel.unit }, fixedrange: true, rangemode: place ? "normal" : "tozero",
          domain: two ? (place ? [0, 0.42] : [0.52, 1]) : [0, 1] };
        panel.curves.forEach((curve) => traces.push({
          type: "scatter", mode: plot.epoch.length > 40 ? "lines" : "lines+markers", x: plot.epoch, y: curve.values, yaxis: "y" + which, name: curve.name,
          showlegend: !place, connectgaps: false, line: { color: tint(curve.role, look), width: 2.2 }, marker: { size: 7, symbol: curve.role === "same" ? "circle" : "square" },
          hovertemplate: "%{y:.4~g}" + (place ? " %" : ""),
        }));
      });
      layout.shapes = plot.rates.map(([epoch]) => ({ type: "line", x0: epoch - 0.5, x1: epoch - 0.5, y0: 0, y1: 1, yref: "paper", line: { color: look.faint, width: 1, dash: "dot" } }));
      layout.annotations = plot.rates.map(([epoch, text]) => ({ x: epoch - 0.5, y: 1, yref: "paper", yanchor: "top", xanchor: "left", textangle: 90, text, showarrow: false, font: { size: 11, color: look.faint } }));
      return { traces, layout };
    },

    distances(plot, look) {
      const { axis, layout } = base(look, { hovermode: "x unified", showlegend: true, legend: { orientation: "h", x: 1, xanchor: "right", y: 1.01, yanchor: "bottom" }, margin: { l: 60, r: 14, t: 40, b: 52 } });
      const traces = [["same", "same class"], ["different", "different classes"]].map(([role, name]) => ({
        type: "scatter", mode: "lines", x: plot.edges, y: [...plot[role], plot[role].at(-1)], name, fill: "tozeroy", line: { shape: "hv", color: tint(role, look), width: 2 },
        fillcolor: tint(role, look) + "44", hovertemplate: "%{y:.3~g}",
      }));
      const end = plot.edges.at(-1), start = plot.edges[0];
      const top = Math.max(...plot.same, ...plot.different) || 1;
      layout.xaxis = { ...axis, title: { text: wrapped(plain(plot.axis), document.getElementById(plot.target).clientWidth / 11) }, range: [start, end], fixedrange: true, hoverformat: ".3~g" };
      layout.yaxis = { ...axis, title: { text: "density (per unit of distance)" }, range: [0, 1.25 * top], fixedrange: true };
      if (plot.threshold !== null) {
        const right = plot.threshold > (start + end) / 2;
        layout.shapes = [{ type: "line", x0: plot.threshold, x1: plot.threshold, y0: 0, y1: 1, yref: "paper", line: { color: look.ink, width: 1.5, dash: "dash" } }];
        layout.annotations = [{ x: plot.threshold, y: 1, yref: "paper", yanchor: "top", xanchor: right ? "right" : "left", xshift: right ? -6 : 6, align: right ? "right" : "left", text: plot.text, showarrow: false, font: { size: 12.5, color: look.ink } }];
      }
      return { traces, layout };
    },

    overlap(plot, look) {
      const names = data.classes.map((c) => c.name), count = names.length;
      const step = Math.ceil(count / (window.innerWidth < 700 ? 20 : 40));
      const ticks = names.map((_, i) => i).filter((i) => i % step === 0);
      const stops = look.dark ? [...data.colours.overlap].reverse() : data.colours.overlap;
      const annotate = count <= 15 && document.getElementById(plot.target).clientWidth > 32 * count + 60;
      const said = plot.matrix.map((row, i) => row.map((share, j) => share === null ? `${plain(names[i])} and ${plain(names[j])}: not measured`
        : `Two of class ${plain(names[i])} lie farther apart<br>than one of class ${plain(names[i])} and one of class ${plain(names[j])}<br>with probability ${percent(share)}`));
      const traces = [{
        type: "heatmap", z: plot.matrix, zmin: 0, zmax: 0.5, xgap: count > 40 ? 0 : 1, ygap: count > 40 ? 0 : 1, hovertext: said, hoverinfo: "text", hoverongaps: true,
        colorscale: stops.map((colour, i) => [i / (stops.length - 1), colour]),
        text: plot.matrix.map((row) => row.map((share) => (share === null ? "" : percent(share).replace(" %", "")))), texttemplate: annotate ? "%{text}" : "",
        textfont: { size: 12 },
        colorbar: { orientation: "h", y: 1.01, yanchor: "bottom", thickness: 10, len: 1, tickformat: ".0%", outlinewidth: 0, tickvals: [0, 0.1, 0.2, 0.3, 0.4, 0.5], tickfont: { size: 11 } },
      }];
      const { axis, layout } = base(look, { plot_bgcolor: look.empty, margin: { l: 40, r: 8, t: 50, b: 40 } });
      const side = { ...axis, showgrid: false, showline: false, ticks: "", tickvals: ticks, ticktext: ticks.map((i) => plain(short(names[i], 14))), fixedrange: true, tickfont: { size: count > 40 ? 10 : 12 } };
      layout.xaxis = { ...side, title: { text: "column class" }, constrain: "domain", range: [-0.5, count - 0.5] };
      layout.yaxis = { ...side, title: { text: "row class" }, range: [count - 0.5, -0.5], scaleanchor: "x", constrain: "domain" };
      return { traces, layout };
    },

    dots(plot, look) {
      const count = plot.names.length, places = plot.names.map((_, i) => i);
      const said = plot.names.map((name, i) => `${plain(name)}: ${number(plot.mean[i])}` + (plot.spread[i] ? ` ± ${number(plot.spread[i], 2)}` : ""));
      const { axis, layout } = base(look, { hovermode: "closest", height: 84 + 30 * count, margin: { l: 10, r: 14, t: 34, b: 28 }, title: { text: plain(plot.title), font: { size: 13.5 }, x: 0, xref: "container", y: 0.97, yref: "container", yanchor: "top" } });
      layout.xaxis = { ...axis, nticks: 4, fixedrange: true };
      layout.yaxis = { ...axis, tickvals: places, ticktext: plot.names.map((name) => plain(short(name, 18))), range: [count - 0.4, -0.6], fixedrange: true, showline: false, ticks: "" };
      return { layout, traces: [{ type: "scatter", mode: "markers", x: plot.mean, y: places, hovertext: said, hoverinfo: "text", marker: { size: 10, color: look.accent },
        error_x: { type: "data", array: plot.spread.map((s) => s || 0), color: look.accent, thickness: 1.6, width: 4 } }] };
    },
  };

  function shuffled(count) {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1, state = 1; i > 0; i--) {
      state = (state * 1103515245 + 12345) % 2147483648;
      const j = Math.floor((state / 2147483648) * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
  const tint = (role, look) => (look.dark && role === "same" ? "#7FA8D6" : data.colours[role]);
  const wrapped = (text, most) => text.split(" ").reduce((lines, word) => {
    if ((lines.at(-1) + " " + word).length > most) lines.push(word); else lines[lines.length - 1] = (lines.at(-1) + " " + word).trim();
    return lines;
  }, [""]).join("<br>");

  // ---- class names at the medians, kept apart in pixels ----
  const tag = (plot, label) => short(data.classes[label].name, plot.medians.length > 20 && document.getElementById(plot.target).clientWidth < 500 ? 8 : 14);

  function labels(plot, look) {
    const where = plot.places || [];
    return plot.medians.map(([label, x, y], i) => {
      const [dx, dy, line] = where[i] || [0, 0, false];
      const note = { x, y, text: "<b>" + plain(tag(plot, label)) + "</b>", visible: !hidden.get(plot.target).has(label), captureevents: false,
        font: { size: plot.medians.length > 20 ? 10 : 14, color: look.ink } };
      return line ? { ...note, showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: look.faint, ax: dx, ay: dy } : { ...note, showarrow: false, xshift: dx, yshift: -dy };
    });
  }

  function spread(plot) {
    const full = document.getElementById(plot.target)._fullLayout;
    if (!full) return;
    const pen = document.createElement("canvas").getContext("2d");
    const size = plot.medians.length > 20 ? 10 : 14;
    pen.font = `bold ${size}px sans-serif`;
    const home = plot.medians.map(([, x, y]) => [full.xaxis.l2p(x), full.yaxis.l2p(y)]);
    const half = plot.medians.map(([label]) => [pen.measureText(tag(plot, label)).width / 2 + 3, size * 0.62]);
    // A class in one spot would vanish under its own name, so its name stands above it.
    const at = home.map(([x, y], i) => [x, y - (plot.narrow[i] ? 16 : 0)]);
    for (let round = 0; round < 120; round++) {
      let clash = false;
      for (let i = 0; i < at.length; i++) for (let j = i + 1; j < at.length; j++) {
        const gx = at[j][0] - at[i][0], gy = at[j][1] - at[i][1];
        const ox = half[i][0] + half[j][0] - Math.abs(gx), oy = half[i][1] + half[j][1] - Math.abs(gy);
        if (ox <= 0 || oy <= 0) continue;
        clash = true;
        const k = oy <= ox ? 1 : 0, push = (k ? oy : ox) / 2 * ((k ? gy : gx) < 0 ? -1 : 1);
        at[i][k] -= push; at[j][k] += push;
      }
      at.forEach((spot, i) => {
        spot[0] = Math.max(half[i][0], Math.min(spot[0], full.xaxis._length - half[i][0]));
        spot[1] = Math.max(half[i][1], Math.min(spot[1], full.yaxis._length - half[i][1]));
      });
      if (!clash) break;
    }
    plot.places = at.map(([x, y], i) => {
      const dx = x - home[i][0], dy = y - home[i][1];
      return [dx, dy, Math.abs(dx) > 2 * half[i][0] || Math.abs(dy) > 3 * half[i][1]];
    });
  }

  // ---- the image under the pointer ----
  const sheets = data.sheets.map((sheet) => Object.assign(new Image(), { src: sheet.address }));
  function show(plot, i) {
    const gd = document.getElementById(plot.target), full = gd._fullLayout, box = gd.getBoundingClientRect();
    const sheet = data.sheets[plot.sheet], canvas = tip.querySelector("canvas");
    const zoom = Math.max(1, 128 / Math.max(sheet.width, sheet.height));
    canvas.width = sheet.width; canvas.height = sheet.height;
    canvas.style.width = sheet.width * zoom + "px"; canvas.style.height = sheet.height * zoom + "px";
    canvas.className = sheet.reduced ? "" : "tiny";
    canvas.getContext("2d").drawImage(sheets[plot.sheet], (i % sheet.columns) * sheet.width, Math.floor(i / sheet.columns) * sheet.height,
      sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
    tip.querySelector("p").textContent = `class ${data.classes[plot.label[i]].name}\n${plot.name[i]}\nnumber ${plot.index[i]}`;
    tip.hidden = false;
    const x = box.left + full.xaxis._offset + full.xaxis.l2p(plot.x[i]), y = box.top + full.yaxis._offset + full.yaxis.l2p(plot.y[i]);
    const left = x + 14 + tip.offsetWidth > root.clientWidth ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = Math.max(4, Math.min(left, root.clientWidth - tip.offsetWidth - 4)) + window.scrollX + "px";
    tip.style.top = Math.max(4, Math.min(y - tip.offsetHeight / 2, window.innerHeight - tip.offsetHeight - 4)) + window.scrollY + "px";
  }
  const hide = () => { tip.hidden = true; };

  function attach(plot) {
    const gd = document.getElementById(plot.target);
    gd.on("plotly_hover", (event) => show(plot, event.points[0].customdata));
    gd.on("plotly_click", (event) => show(plot, event.points[0].customdata));
    gd.on("plotly_unhover", hide);
    gd.on("plotly_relayouting", hide);
    gd.on("plotly_relayout", (change) => {
      if (change["xaxis.range[0]"] !== undefined || change["xaxis.autorange"]) {
        hide();
        plot.range = [[...gd.layout.xaxis.range], [...gd.layout.yaxis.range]];
      }
    });
    let at = -1;
    gd.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") return hide();
      if (!step || hidden.get(plot.target).size >= plot.medians.length) return;
      event.preventDefault();
      if (at < 0 && step < 0) at = 0;
      do at = (at + step + plot.x.length) % plot.x.length; while (hidden.get(plot.target).has(plot.label[at]));
      show(plot, at);
    });
    gd.addEventListener("blur", hide);
    legend(plot, gd);
  }

  // ---- the legend: buttons, so that it works from the keyboard ----
  function legend(plot, gd) {
    const bar = gd.parentElement.querySelector(".legend"), off = hidden.get(plot.target);
    const refresh = () => {
      hide();
      bar.querySelectorAll("button[data-class]").forEach((b) => b.setAttribute("aria-pressed", String(!off.has(Number(b.dataset.class)))));
      render(plot);
    };
    const counts = new Map();
    plot.label.forEach((label) => counts.set(label, (counts.get(label) || 0) + 1));
    plot.medians.forEach(([label]) => {
      const button = document.createElement("button"), mark = document.createElement("span");
      mark.className = "mark"; mark.textContent = marks[data.classes[label].symbol]; mark.style.color = data.classes[label].colour;
      mark.setAttribute("aria-hidden", "true");
      button.append(mark, data.classes[label].name);
      button.type = "button"; button.dataset.class = label; button.setAttribute("aria-pressed", "true");
      button.title = `${data.classes[label].name}: ${counts.get(label) || 0} images drawn. Click hides or shows, double-click shows only this class`;
      button.addEventListener("click", () => { if (!off.delete(label)) off.add(label); refresh(); });
      button.addEventListener("dblclick", () => { plot.medians.forEach(([other]) => off.add(other)); off.delete(label); refresh(); });
      bar.append(button);
    });
    const all = document.createElement("button");
    all.type = "button"; all.textContent = "show all";
    all.addEventListener("click", () => { off.clear(); refresh(); });
    bar.append(all);
  }

  // ---- drawing, and drawing again when the theme changes ----
  let printing = false;
  function render(plot) {
    const { traces, layout, tools } = draw[plot.kind](plot, theme());
    // Paper is narrower than most screens, and nothing tells plotly so.
    if (printing) layout.width = Math.min(plot.kind === "dots" ? 300 : 660, document.getElementById(plot.target).clientWidth);
    return Plotly.react(plot.target, traces, layout, { responsive: true, displaylogo: false, displayModeBar: tools ? "hover" : false, doubleClick: "reset+autosize",
      // Named one by one: plotly's own choice holds a button that would send the data to a server.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d", "autoScale2d"]], toImageButtonOptions: { filename: plot.target, scale: 2 } });
  }

  async function start() {
    for (const plot of data.plots) {
      if (plot.kind !== "scatter") { await render(plot); continue; }
      hidden.set(plot.target, new Set());
      plot.order = shuffled(plot.x.length);
      const whole = plot.frame[0][1] - plot.frame[0][0];
      plot.narrow = plot.medians.map(([label]) => {
        const rows = plot.label.flatMap((l, i) => (l === label ? [i] : []));
        return [plot.x, plot.y].every((side) => rows.every((i) => Math.abs(side[i] - side[rows[0]]) < 0.04 * whole));
      });
      await render(plot);
      if (document.getElementById(plot.target).querySelector(".no-webgl")) { // promised, but refused
        scatterType = "scatter";
        await render(plot);
      }
      spread(plot);
      await render(plot);
      attach(plot);
    }
    await Promise.all(sheets.map((image) => image.decode().catch(() => null)));
    root.dataset.ready = "yes";
  }

  const button = document.getElementById("theme");
  const again = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
    return Promise.all(data.plots.map(render));
  };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; again(); });
  dark.addEventListener("change", again);
  let before;
  window.addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; printing = true; again(); });
  window.addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; printing = false; again(); });
  let later;
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(later);
    later = setTimeout(() => { data.plots.filter((p) => p.kind === "scatter").forEach(spread); again(); }, 250);
  });
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  start();
})();
