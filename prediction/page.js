"use strict";
// What is shown is made of the data with textContent alone: no title becomes markup, whatever it holds.
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = 50; // rows that are made at once
const byId = (id) => document.getElementById(id);

function make(tag, options = {}, ...children) {
  const { text, ...rest } = options;
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(rest)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const precise = new Intl.NumberFormat("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const known = (value) => value !== null && value !== undefined;
const inDigits = (value) => (Math.abs(value) >= 100 ? whole : tenth).format(value);
const counted = data.videos.some((video) => video.estimates.some((one) => known(one.count)));
const shown = (value) => (!known(value) ? "–" : counted ? inDigits(value) : precise.format(value));

function picture(item) {
  const [head, rest] = data.jpegs[data.items[item][2]] || [];
  if (rest === undefined) return make("div", { className: "look" });
  // Files of one size begin alike; that beginning is in the page once.
  return make("img", { className: "look", alt: "", src: "data:image/jpeg;base64," + data.heads[head] + rest });
}

function named(item, cut) {
  const [id, text] = data.items[item];
  const title = make("span", { className: cut ? "title cut" : "title", dir: "auto", text: text || "(no text)" });
  return make("span", {}, title, make("span", { className: "id", text: id }));
}

// ---- what a row says ----------------------------------------------------------------------------------------------

let target = 0;
const estimate = (video) => video.estimates[target];
const predicted = (one) => (known(one.count) ? one.count : one.label);
const truth = (one) => (known(one.true_count) ? one.true_count : one.true_label);
const error = (one) => (known(one.true_label) ? one.label - one.true_label : null);

function errorInWords(one) {
  const off = error(one);
  if (off === null) return "–";
  if (!counted) return (off > 0 ? "+" : "") + precise.format(off);
  const times = 2 ** Math.abs(off);
  if (times < 1.05) return "met";
  return `${times < 10 ? tenth.format(times) : whole.format(times)} × too ${off > 0 ? "high" : "low"}`;
}

const asLabel = (label) => (counted ? ` (${data.unit}: ${precise.format(label)})` : ""); // else it is what is shown
const between = (range) => `${shown(range.low)} – ${shown(range.high)}`;
const first = (video) => estimate(video).ranges[0];
const share = data.videos.length && first(data.videos[0]) ? first(data.videos[0]).percent : 0;
const hasTruth = data.videos.some((video) => video.estimates.some((one) => known(one.true_label)));

// name, what it is sorted by, what it shows; up: the smallest is first when it is chosen
const columns = [
  { name: "video", key: (v) => data.items[v.item][1].toLowerCase() || data.items[v.item][0], up: true },
  { name: "predicted", key: (v) => predicted(estimate(v)), show: (v) => shown(predicted(estimate(v))) },
];
if (share) {
  columns.push({
    name: `${share} % interval`,
    key: (v) => (first(v) && known(first(v).low) && known(first(v).high) ? first(v).high - first(v).low : null),
    show: (v) => (first(v) ? between(first(v)) : "–"),
  });
}
if (hasTruth) {
  columns.push({ name: "true", key: (v) => truth(estimate(v)), show: (v) => shown(truth(estimate(v))) });
  columns.push({
    name: "error",
    key: (v) => (known(error(estimate(v))) ? Math.abs(error(estimate(v))) : null),
    show: (v) => errorInWords(estimate(v)),
  });
}

// ---- the table ----------------------------------------------------------------------------------------------------

let sorted = 1, upwards = false, made = 0, found = data.videos.slice();
const text = data.videos.map((v) => data.items[v.item].slice(0, 2).join("\n").normalize("NFKC").toLowerCase());
const body = byId("videos").tBodies[0];

function compare(a, b) {
  const [x, y] = [columns[sorted].key(a), columns[sorted].key(b)];
  if (!known(x) || !known(y)) return known(y) - known(x); // what is unknown comes last, either way round
  return (upwards ? 1 : -1) * (typeof x === "string" ? x.localeCompare(y) : x - y);
}

function refresh() {
  const words = byId("filter").value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
  found = data.videos.filter((_, i) => words.every((word) => text[i].includes(word)));
  found.sort(compare);
  body.replaceChildren();
  made = 0;
  more();
  byId("count").textContent = `${whole.format(found.length)} of ${whole.format(data.videos.length)} videos`;
  byId("sort").value = String(sorted);
  byId("turn").textContent = upwards ? "↑" : "↓";
  [...byId("videos").tHead.rows[0].cells].forEach((cell, i) => {
    if (i === sorted) cell.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}

function more() {
  const next = found.slice(made, made + STEP);
  body.append(...next.map(row));
  made += next.length;
  const left = found.length - made;
  byId("more").hidden = !left;
  byId("more").textContent = `show ${Math.min(STEP, left)} more of ${whole.format(left)}`;
}

function row(video) {
  const button = make("button", { className: "video", type: "button" }, picture(video.item), named(video.item, true));
  button.setAttribute("aria-expanded", "false");
  const line = make("tr", { className: "row" }, make("td", {}, button));
  for (const column of columns.slice(1)) {
    const cell = make("td", { className: "number" }, make("span", { text: column.show(video) }));
    cell.dataset.name = column.name;
    line.append(cell);
  }
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) line.nextElementSibling.remove();
    else line.after(details(video));
  });
  return line;
}

function details(video) {
  const inside = make("td", { colSpan: columns.length });
  inside.append(make("span", { className: "title", dir: "auto", text: data.items[video.item][1] || "(no text)" }));
  inside.append(make("p", { className: "soft", text: "id " + data.items[video.item][0] }));
  data.targets.forEach((name, t) => {
    const one = video.estimates[t];
    const said = [`${name}: predicted ${shown(predicted(one))}${asLabel(one.label)}`];
    said.push(...one.ranges.map((range) => `${range.percent} %: ${between(range)}`));
    if (known(one.true_label)) said.push(`true ${shown(truth(one))}${asLabel(one.true_label)}`, errorInWords(one));
    inside.append(make("p", { className: "soft", text: said.join("; ") }));
  });
  inside.append(...video.notes.map((note) => make("p", { className: "soft", dir: "auto", text: note })));
  if (video.near.length) inside.append(make("p", { className: "soft", text: "The videos that are most similar to it:" }));
  const near = make("div", { className: "near" });
  for (const [item, similarity, weight, counts] of video.near) {
    const said = data.targets.map((name, t) => (known(counts[t]) ? `${shown(counts[t])} ${name}` : `${name} unknown`));
    const box = make("div", {}, picture(item), named(item, true), make("p", { text: said.join(", ") }));
    let figures = `similarity ${precise.format(similarity)}`;
    if (known(weight)) {
      const bar = make("div");
      bar.style.width = `${100 * weight}%`;
      box.append(make("div", { className: "bar" }, bar));
      figures += `, weight ${tenth.format(100 * weight)} %`;
    }
    box.append(make("p", { className: "soft", text: figures }));
    near.append(box);
  }
  inside.append(near);
  return make("tr", { className: "details" }, inside);
}

function sortBy(i) {
  if (i === sorted) upwards = !upwards;
  else [sorted, upwards] = [i, Boolean(columns[i].up)];
  refresh();
}

// ---- once ---------------------------------------------------------------------------------------------------------

byId("lines").append(...data.lines.map((line) => make("p", { dir: "auto", text: line })));
byId("warnings").append(...data.warnings.map((line) => make("p", { text: line })));

if (data.metrics.length) {
  const several = data.metrics.some((one) => one.target);
  const head = [...(several ? ["target"] : []), "metric", "value", "95 % interval", "better"];
  const cells = (one) => [
    ...(several ? [one.target] : []), one.name, known(one.value) ? precise.format(one.value) : "nan",
    known(one.low) && known(one.high) ? `${precise.format(one.low)} – ${precise.format(one.high)}` : "–",
    one.larger_is_better ? "larger" : "smaller",
  ];
  byId("metrics").append(make("tr", {}, ...head.map((name) => make("th", { text: name }))));
  for (const one of data.metrics) byId("metrics").append(make("tr", {}, ...cells(one).map((said) => make("td", { text: said }))));
  byId("measured").hidden = false;
}

for (const [name, svg] of Object.entries(data.pictures)) {
  const image = make("img", { alt: name, src: "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg) });
  const figure = make("figure", {}, make("button", { type: "button", title: "larger, smaller" }, image));
  figure.addEventListener("click", () => figure.classList.toggle("large"));
  byId("pictures").append(figure);
  byId("drawn").hidden = false;
}

columns.forEach((column, i) => {
  const button = make("button", { type: "button", text: column.name });
  button.addEventListener("click", () => sortBy(i));
  byId("videos").tHead.rows[0].append(make("th", { className: i ? "number" : "" }, button));
  byId("sort").append(make("option", { value: String(i), text: column.name }));
});
data.targets.forEach((name, t) => byId("target").append(make("option", { value: String(t), text: name })));
byId("targets").hidden = data.targets.length < 2;
byId("target").addEventListener("change", () => { target = Number(byId("target").value); refresh(); });
byId("sort").addEventListener("change", () => sortBy(Number(byId("sort").value)));
byId("turn").addEventListener("click", () => sortBy(sorted));
byId("filter").addEventListener("input", refresh);
byId("more").addEventListener("click", more);
refresh();

// One video alone has nothing to be sorted or found among: it is shown open.
if (data.videos.length === 1) {
  byId("controls").hidden = true;
  body.querySelector("button.video").click();
}
// To a page that shows this one in a frame: how high it is, and nothing else.
if (window.parent !== window) {
  new ResizeObserver(() => window.parent.postMessage(document.body.offsetHeight, "*")).observe(document.body);
}
