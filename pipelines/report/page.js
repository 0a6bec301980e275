"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const named = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `use ${dark() ? "light" : "dark"} colours`); };
  try { const kept = localStorage.getItem("infield-theme"); if (kept) root.dataset.theme = kept; } catch (e) { /* no storage */ }
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("infield-theme", root.dataset.theme); } catch (e) { /* no storage */ }
    named(); redraw();
  });
  named();

  for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending", column = head.cellIndex;
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].textContent.trim();
    const number = text => parseFloat(text.replace(/,/g, ""));
    const compare = (a, b) => {
      const [x, y] = [number(a), number(b)];
      return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
    };
    [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b))).forEach(row => body.append(row));
  });

  const store = document.getElementById("fields");
  let redraw = () => {};
  if (!store) return;
  const data = JSON.parse(store.textContent), place = document.getElementById("browser");
  const bytes = text => { const s = atob(text), a = new Uint8Array(s.length); for (let i = 0; i < s.length; i++) a[i] = s.charCodeAt(i); return new Uint16Array(a.buffer); };
  const unpacked = new Map();
  const values = layer => { if (!unpacked.has(layer)) unpacked.set(layer, bytes(layer.data)); return unpacked.get(layer); };
  const EMPTY = 65535, TOP = 65534;
  const number = (layer, code) => code === EMPTY ? NaN : layer.low + (layer.high - layer.low) * code / TOP;
  const form = v => isNaN(v) ? "none" : Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(3) : String(+v.toPrecision(5));
  const unit = u => u === "1" || !u ? "" : ` ${u}`;
  const element = (tag, set = {}, ...inside) => { const e = document.createElement(tag); for (const [k, v] of Object.entries(set)) k in e ? e[k] = v : e.setAttribute(k, v); e.append(...inside); return e; };
  const labelled = (text, control) => element("label", {}, element("span", { textContent: text }), control);
  const range = (max, of) => element("input", { type: "range", min: 0, max, value: 0, ariaLabel: of });

  const state = { view: 0, slice: data.depth >> 1, at: [data.rows >> 1, data.columns >> 1] };
  const controls = element("div", { className: "controls" }), output = element("output", { ariaLive: "polite" });
  place.append(controls);
  if (data.views.length > 1) {
    const select = element("select", {}, ...data.views.map((v, i) => element("option", { value: i, textContent: v.name })));
    select.addEventListener("change", () => { state.view = +select.value; panels.forEach(p => p.fill()); redraw(); });
    controls.append(labelled("channel", select));
  }
  if (data.depth > 1) {
    const slider = range(data.depth - 1, `slice along ${data.axes[0].name}`); slider.value = state.slice;
    slider.addEventListener("input", () => { state.slice = +slider.value; redraw(); });
    controls.append(labelled(`slice along ${data.axes[0].name}`, slider));
  }

  const panels = [0, 1].map(which => {
    const select = element("select"), slider = range(0, "number of the sample"), name = element("span", { className: "number" });
    const canvas = element("canvas", { tabIndex: 0, role: "img" }), bar = element("canvas", { className: "bar", ariaHidden: "true" });
    const ends = element("div", { className: "ends" }), png = element("button", { type: "button", textContent: "save PNG" });
    const sample = labelled("sample", slider); sample.append(name);
    const box = element("section", { ariaLabel: which ? "second field" : "first field" }, element("div", { className: "controls" }, labelled("show", select), sample, png), canvas, bar, ends);
    const panel = { select, slider, name, canvas, bar, ends, sample };
    panel.fill = () => {
      const layers = data.views[state.view].layers, kinds = [...new Set(layers.map(l => l.kind))], before = select.value;
      select.replaceChildren(...kinds.map(k => element("option", { value: k, textContent: k })));
      select.value = kinds.includes(before) ? before : kinds[Math.min(which, kinds.length - 1)];
    };
    panel.layer = () => {
      const layers = data.views[state.view].layers.filter(l => l.kind === select.value);
      slider.max = layers.length - 1; sample.hidden = layers.length < 2;
      return layers[Math.min(+slider.value, layers.length - 1)];
    };
    select.addEventListener("change", () => redraw());
    slider.addEventListener("input", () => redraw());
    png.addEventListener("click", () => element("a", { href: canvas.toDataURL("image/png"), download: `${panel.layer().name}.png` }).click());
    canvas.addEventListener("pointermove", event => {
      const box = canvas.getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
      if (data.kind === "points") {
        let best = 0, least = Infinity;
        data.points.forEach(([u, v], i) => { const d = (u - across) ** 2 + (1 - v - down) ** 2; if (d < least) { least = d; best = i; } });
        state.at = [0, best];
      } else state.at = [clamp(Math.floor((data.upwards ? 1 - down : down) * data.rows), data.rows), clamp(Math.floor(across * data.columns), data.columns)];
      redraw();
    });
    canvas.addEventListener("keydown", event => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [data.upwards ? 1 : -1, 0], ArrowDown: [data.upwards ? -1 : 1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      state.at = [clamp(state.at[0] + step[0], data.rows), clamp(state.at[1] + step[1], data.columns)];
      redraw();
    });
    return Object.assign(panel, { box });
  });
  const clamp = (i, n) => Math.max(0, Math.min(n - 1, i));
  place.append(element("div", { className: "panels" }, ...panels.map(p => p.box)), output);

  const colour = (name, t) => { const table = data.colours[name], i = 3 * Math.round(Math.max(0, Math.min(1, t)) * (table.length / 3 - 1)); return [table[i], table[i + 1], table[i + 2]]; };
  const ink = () => getComputedStyle(root).getPropertyValue("--ink");
  const size = (canvas, ratio) => {
    const width = canvas.clientWidth || 320, scale = devicePixelRatio || 1;
    canvas.style.height = `${Math.round(Math.max(120, Math.min(width * ratio, 900)))}px`;
    canvas.width = Math.round(width * scale); canvas.height = Math.round(canvas.clientHeight * scale);
    return canvas.getContext("2d");
  };
  const part = layer => values(layer).subarray(state.slice * data.rows * data.columns, (state.slice + 1) * data.rows * data.columns);

  function image(panel, layer) {
    const context = size(panel.canvas, data.ratio), codes = part(layer), picture = context.createImageData(data.columns, data.rows);
    for (let r = 0; r < data.rows; r++) for (let c = 0; c < data.columns; c++) {
      const code = codes[r * data.columns + c], at = 4 * ((data.upwards ? data.rows - 1 - r : r) * data.columns + c);
      const v = number(layer, code), shown = code === EMPTY ? [150, 150, 150] : colour(layer.colours, (v - layer.from) / (layer.to - layer.from));
      picture.data.set([...shown, 255], at);
    }
    const small = element("canvas", { width: data.columns, height: data.rows }); small.getContext("2d").putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, panel.canvas.width, panel.canvas.height);
    const [w, h] = [panel.canvas.width / data.columns, panel.canvas.height / data.rows], row = data.upwards ? data.rows - 1 - state.at[0] : state.at[0];
    const reach = Math.max(7 * (devicePixelRatio || 1), w / 2, h / 2), [x, y] = [(state.at[1] + 0.5) * w, (row + 0.5) * h];
    for (const [style, wide] of [["#fff", 4], ["#000", 1.5]]) {
      context.strokeStyle = style; context.lineWidth = wide; context.strokeRect(x - reach, y - reach, 2 * reach, 2 * reach);
    }
  }
  function points(panel, layer) {
    const context = size(panel.canvas, data.ratio), codes = values(layer), radius = Math.max(2, Math.min(8, 90 / Math.sqrt(data.points.length))) * (devicePixelRatio || 1);
    data.points.forEach(([u, v], i) => {
      const [r, g, b] = codes[i] === EMPTY ? [150, 150, 150] : colour(layer.colours, (number(layer, codes[i]) - layer.from) / (layer.to - layer.from));
      context.fillStyle = `rgb(${r},${g},${b})`; context.beginPath();
      context.arc(radius + u * (panel.canvas.width - 2 * radius), radius + (1 - v) * (panel.canvas.height - 2 * radius), radius * (i === state.at[1] ? 1.8 : 1), 0, 7); context.fill();
    });
  }
  function line(panel, layer) {
    const context = size(panel.canvas, 0.6), { width, height } = panel.canvas, x = data.axes[0].values, [from, to] = [layer.from, layer.to], pad = 4;
    const across = i => pad + (x[i] - x[0]) / ((x[x.length - 1] - x[0]) || 1) * (width - 2 * pad), up = v => height - pad - (v - from) / (to - from) * (height - 2 * pad);
    const path = (l, style, wide) => { context.strokeStyle = style; context.lineWidth = wide; context.beginPath(); values(l).forEach((code, i) => context[i ? "lineTo" : "moveTo"](across(i), up(number(l, code)))); context.stroke(); };
    const layers = data.views[state.view].layers, of = kind => layers.find(l => l.kind === kind), [low, high] = [of("quantile 5 %"), of("quantile 95 %")];
    if (low && high && layer.kind !== "standard deviation") {
      context.fillStyle = "#0072b244"; context.beginPath();
      values(low).forEach((code, i) => context[i ? "lineTo" : "moveTo"](across(i), up(number(low, code))));
      for (let i = x.length - 1; i >= 0; i--) context.lineTo(across(i), up(number(high, values(high)[i])));
      context.fill();
    }
    path(layer, "#0072b2", 2 * (devicePixelRatio || 1));
    context.strokeStyle = ink(); context.lineWidth = 1; context.beginPath(); context.moveTo(across(state.at[1]), 0); context.lineTo(across(state.at[1]), height); context.stroke();
  }
  function legend(panel, layer) {
    const context = panel.bar.getContext("2d"); panel.bar.width = 256; panel.bar.height = 1; panel.bar.hidden = data.kind === "line";
    for (let i = 0; i < 256; i++) { const [r, g, b] = colour(layer.colours, i / 255); context.fillStyle = `rgb(${r},${g},${b})`; context.fillRect(i, 0, 1, 1); }
    panel.ends.replaceChildren(element("span", { textContent: form(layer.from) }), element("span", { textContent: `${layer.name}${layer.units === "1" ? "" : ` (${layer.units})`}` }), element("span", { textContent: form(layer.to) }));
  }
  redraw = () => {
    const said = [], index = state.at[0] * data.columns + state.at[1];
    for (const panel of panels) {
      const layer = panel.layer();
      ({ image, points, line })[data.kind](panel, layer); legend(panel, layer);
      panel.name.textContent = panel.sample.hidden ? "" : `${+panel.slider.value + 1} of ${+panel.slider.max + 1} shown`;
      const codes = part(layer), v = number(layer, codes[index]);
      let [least, most] = [EMPTY, -1];
      for (const code of codes) if (code !== EMPTY) { if (code < least) least = code; if (code > most) most = code; }
      panel.canvas.setAttribute("aria-label", `${layer.name} of ${data.views[state.view].name}, ${form(number(layer, least))} to ${form(number(layer, most))}${unit(layer.units)}; arrow keys move the point that is read`);
      said.push(`${layer.name} ${form(v)}${unit(layer.units)}`);
    }
    const where = [];
    if (data.depth > 1) where.push([0, state.slice]);
    if (data.kind === "image") where.push([data.axes.length - 2, state.at[0]], [data.axes.length - 1, state.at[1]]);
    if (data.kind === "line") where.push([0, state.at[1]]);
    const spelled = data.kind === "points" ? data.axes.map(a => `${a.name} ${form(a.values[state.at[1]])}${unit(a.units)}`) : where.map(([a, i]) => `${data.axes[a].name} ${form(data.axes[a].values[i])}${unit(data.axes[a].units)}`);
    output.textContent = `${spelled.join(", ")}: ${said.join("; ")}`;
  };
  const numbers = element("button", { type: "button", textContent: "save numbers (JSON)" });
  numbers.addEventListener("click", () => {
    const plain = { axes: data.axes, views: data.views.map(v => ({ name: v.name, layers: v.layers.map(l => ({ name: l.name, units: l.units, values: [...values(l)].map(c => c === EMPTY ? null : number(l, c)) })) })) };
    element("a", { href: URL.createObjectURL(new Blob([JSON.stringify(plain)], { type: "application/json" })), download: "fields.json" }).click();
  });
  controls.append(numbers);
  panels.forEach(p => p.fill()); redraw();
  new ResizeObserver(() => requestAnimationFrame(redraw)).observe(place);
})();
