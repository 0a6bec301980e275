"""Text of the page of `infield project --page`; it loads nothing from elsewhere."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Projection</title>
<style>
body{font:14px system-ui,sans-serif;margin:1em;display:flex;gap:1.5em;background:#fafafa}
#choices{width:19em;flex:none} #choices label{display:block;margin:.5em 0} #choices input[type=range]{width:100%}
figure{display:inline-block;margin:0 .7em .7em 0}
figure img{width:320px;image-rendering:pixelated;border:1px solid #ccc}
figcaption{color:#555} #said{white-space:pre-wrap;color:#a00}
#command{white-space:pre-wrap;background:#eee;padding:.5em}
.thumb{width:84px;cursor:pointer;border:3px solid transparent} .thumb.on{border-color:#06c}
fieldset{border:1px solid #ccc;margin:.6em 0}
</style>
<div id="choices">
<h3 id="name"></h3>
<fieldset><legend>Paradigm</legend>
<label><input type="radio" name="paradigm" value="adversarial" id="adversarial" checked> a target</label>
<label><input type="radio" name="paradigm" value="cooperative" id="cooperative"> pictures that suit</label></fieldset>
<div id="ofTarget"><label>Target <input type="file" id="file" accept="image/*"></label></div>
<div id="ofSamples" hidden>
<label>Tolerance <output id="toleranceOut"></output>
<input type="range" id="tolerance" min="-3" max="-1" step="0.1" value="-2"></label>
<label>Edges <output id="edgesOut"></output>
<input type="range" id="edges" min="0" max="4" step="0.25" value="0"></label>
<label>Depth <output id="depthOut"></output>
<input type="range" id="depth" min="0" max="4" step="0.25" value="0"></label>
<label>Like <input type="file" id="likeFile" accept="image/*"></label>
<label>weight of it <output id="likeOut"></output>
<input type="range" id="like" min="0" max="4" step="0.25" value="0"></label>
<label>Samples <input type="number" id="samples" min="1" max="16" value="4"> seed
<input type="number" id="seed" min="0" value="0" style="width:5em"></label>
<button id="draw">Draw</button> <div id="thumbs"></div></div>
<label>Exposure <output id="exposureOut"></output>
<input type="range" id="exposure" min="-3" max="1" step="0.01" value="0"></label>
<label>Error <select id="error"></select></label>
<label>Scale <select id="scale"></select></label>
<fieldset id="projectorsOn"><legend>Projectors</legend></fieldset>
<fieldset><legend>Mask, black where the surface stays dark</legend>
<input type="file" id="mask" accept="image/*"> <button id="unmask">none</button></fieldset>
<label><input type="checkbox" id="joint"> refine jointly (60 iterations)</label>
<button id="save">Save full size</button>
<pre id="command"></pre><div id="said"></div></div>
<div><div id="figures"></div><div id="images"></div></div>
<script>
"use strict";
const $ = id => document.getElementById(id);
let facts, source = "target", busy = false, waiting = false, later = null;
const words = {target: "target as scaled", appearance: "appearance, predicted",
  residual: "residual (grey: none, times 2)", gamut: "outside the gamut (red)"};
const exposure = () => facts.exposure * 2 ** Number($("exposure").value);
const tolerance = () => 10 ** Number($("tolerance").value);
function asked(iterations, quick = false) {
  const off = [...document.querySelectorAll("#projectorsOn input")].filter(b => !b.checked).map(b => b.value);
  return {source, exposure: exposure(), error: $("error").value, scale: $("scale").value, off, iterations, quick};
}
async function post(path, body) {
  const answer = await fetch(path, {method: "POST", body: body instanceof Blob ? body : JSON.stringify(body)});
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  $("said").textContent = "";
  return found;
}
const say = error => { $("said").textContent = error.message; };
function show(found, iterations, seconds) {
  const f = found.figures, all = {...found.images, ...found.projectors};
  $("images").replaceChildren(...Object.entries(all).map(([name, uri]) => {
    const [figure, caption] = ["figure", "figcaption"].map(n => document.createElement(n)), image = new Image();
    image.src = uri; image.alt = name; image.dataset.name = name; caption.textContent = words[name] || name;
    figure.append(image, document.createElement("br"), caption); return figure; }));
  $("figures").textContent = `${(100 * f.outside).toFixed(1)} % outside the gamut, PSNR ${f.psnr.toFixed(1)} dB, ` +
    `Delta E ${f.delta_e_2000.toFixed(2)}, ${iterations ? "jointly" : "pixel by pixel"}, ${seconds.toFixed(2)} s`;
  document.body.dataset.shown = String(Number(document.body.dataset.shown || 0) + 1);
}
async function update(iterations = 0, quick = false) {
  clearTimeout(later);
  if (busy) { waiting = true; return; }
  busy = true;
  const began = performance.now();
  try {
    const found = await post("/preview", asked(iterations, quick));
    show(found, iterations, (performance.now() - began) / 1000);
  } catch (e) { say(e); }
  busy = false;
  if (waiting) { waiting = false; update(0, quick); }
  else if (quick) later = setTimeout(update, 250);
  else if (!iterations && $("joint").checked) later = setTimeout(() => update(60), 400);
}
function labels() {
  $("exposureOut").value = exposure().toPrecision(3); $("toleranceOut").value = tolerance().toPrecision(2);
  for (const n of ["edges", "depth", "like"]) $(n + "Out").value = $(n).value;
}
function choose(name) {
  source = name;
  document.querySelectorAll(".thumb").forEach(t => t.classList.toggle("on", t.dataset.name === name));
  update();
}
function paradigm() {
  const cooperative = $("cooperative").checked;
  $("ofTarget").hidden = cooperative; $("ofSamples").hidden = !cooperative;
  const first = document.querySelector(".thumb");
  if (!cooperative) choose("target"); else if (first) choose(first.dataset.name);
}
async function start() {
  facts = await (await fetch("/facts")).json();
  $("name").textContent = `${facts.setup} (${facts.camera.join(" x ")}, preview ${facts.preview.join(" x ")})`;
  for (const [id, names] of [["error", facts.errors], ["scale", facts.scales]])
    $(id).replaceChildren(...names.map(n => new Option(n, n, n === "coded", n === "coded")));
  $("projectorsOn").append(...facts.projectors.map(n => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.checked = true; box.value = n; box.onchange = () => update();
    label.append(box, " " + n); return label; }));
  $("cooperative").disabled = !facts.prior; $("depth").disabled = !facts.depth;
  for (const id of ["exposure", "tolerance", "edges", "depth", "like"]) $(id).oninput = labels;
  $("exposure").addEventListener("input", () => update(0, true));
  for (const id of ["error", "scale", "joint"]) $(id).onchange = () => update();
  for (const id of ["adversarial", "cooperative"]) $(id).onchange = paradigm;
  const take = (id, action, after) => { $(id).onchange = async () => {
    const file = $(id).files[0]; if (!file) return;
    try { await post(`/${action}/` + file.name.split(".").pop(), file); after(); } catch (e) { say(e); } }; };
  take("file", "upload", () => choose("target"));
  take("mask", "mask", () => update());
  $("like").disabled = !facts.like;
  take("likeFile", "like", () => { $("like").disabled = false; });
  $("unmask").onclick = async () => {
    $("mask").value = "";
    try { await post("/unmask", {}); update(); } catch (e) { say(e); } };
  $("draw").onclick = async () => {
    $("draw").disabled = true;
    try {
      const body = {exposure: exposure(), tolerance: tolerance(), edges: Number($("edges").value),
        depth: Number($("depth").value), like: Number($("like").value),
        samples: Number($("samples").value), seed: Number($("seed").value)};
      const found = await post("/draw", body);
      $("thumbs").replaceChildren(...Object.entries(found.samples).map(([name, uri]) => {
        const image = new Image(); image.src = uri; image.className = "thumb";
        image.dataset.name = image.alt = name; image.onclick = () => choose(name); return image; }));
      choose(Object.keys(found.samples)[0]);
    } catch (e) { say(e); }
    $("draw").disabled = false; };
  $("save").onclick = async () => {
    $("save").disabled = true;
    try {
      const found = await post("/save", asked($("joint").checked ? 60 : 0));
      $("command").textContent = found.command;
    } catch (e) { say(e); }
    $("save").disabled = false; };
  labels(); update();
}
start().catch(say);
</script></html>
"""
