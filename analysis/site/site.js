// Tables that sort and filter, figures with hover, the data of a figure as a table. Without this script the pages still
// hold every number of their first rows, and links to the files with all of them.
"use strict";

const PAGE = 100;  // rows at a time: a browser lays thousands out too slowly
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const json = (id) => {
  const found = document.getElementById(id);
  return found ? JSON.parse(found.textContent) : null;
};

function leading(text) {  // the number that a cell begins with: "> 1.43" is 1.43, "12,640" is 12640; NaN for none
  return parseFloat(text.replace(/^[<>\s]+/, "").replace(/^\u2212/, "-").replace(/,(?=\d{3})/g, ""));
}

function enhanceTable(box) {
  const table = box.querySelector("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const numeric = heads.map((th) => th.classList.contains("n")), long = json(box.id + "-rows");
  const rows = long
    ? long.rows.map((cells, r) => ({ cells, links: Object.fromEntries(Object.entries(long.links).map(([k, v]) => [k, v[r]])) }))
    : [...body.rows].map((tr) => ({ cells: [...tr.cells].map((td) => td.textContent.trim()), tr }));
  if (rows.length < 2) return;
  rows.forEach((row) => { row.all = row.cells.join(" \u0001 ").toLowerCase(); });
  const root = document.body.dataset.root;
  let shown = rows, page = 0, by = -1, down = false;

  const line = (row) => {
    if (row.tr) return row.tr;
    return el("tr", {}, ...row.cells.map((text, k) => {
      const td = el(k ? "td" : "th", k ? {} : { scope: "row" });
      if (numeric[k]) td.className = "n";
      td.append(row.links[k] ? el("a", { href: root + row.links[k] }, text) : text);
      return td;
    }));
  };
  const told = el("span", { class: "count", role: "status" });
  const pages = Math.ceil(rows.length / PAGE) > 1;
  const back = el("button", { type: "button" }, "Previous"), on = el("button", { type: "button" }, "Next");
  const draw = () => {
    const start = page * PAGE, end = Math.min(start + PAGE, shown.length);
    body.replaceChildren(...shown.slice(start, end).map(line));
    const range = pages && shown.length > PAGE ? `rows ${start + 1} to ${end} of ` : "";
    told.textContent = shown.length === rows.length ? `${range}${rows.length} rows` : `${range}${shown.length} of ${rows.length} rows`;
    back.disabled = page === 0;
    on.disabled = end >= shown.length;
  };
  const sort = (k) => {
    down = by === k ? !down : false;
    by = k;
    const sign = down ? -1 : 1;
    const key = new Map(rows.map((row) => [row, numeric[k] ? leading(row.cells[k]) : row.cells[k]]));
    const compare = numeric[k]
      ? (a, b) => (isNaN(key.get(a)) - isNaN(key.get(b))) || sign * (key.get(a) - key.get(b)) || 0
      : (a, b) => (!key.get(a) - !key.get(b)) || sign * collator.compare(key.get(a), key.get(b));
    rows.sort(compare);
    shown = [...shown].sort(compare);
    heads.forEach((th, i) => (i === k ? th.setAttribute("aria-sort", down ? "descending" : "ascending") : th.removeAttribute("aria-sort")));
    page = 0;
    draw();
  };
  heads.forEach((th, k) => {
    const button = el("button", { type: "button" }, th.textContent);
    button.addEventListener("click", () => sort(k));
    th.replaceChildren(button);
  });
  const tools = box.querySelector(".tools");
  if (rows.length > 5) {
    const input = el("input", { type: "search", id: box.id + "-filter", autocomplete: "off" });
    const label = el("label", { for: input.id }, "Filter ");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      shown = rows.filter((row) => words.every((w) => row.all.includes(w)));
      page = 0;
      draw();
    });
    tools.prepend(label, input, told);
  }
  if (pages) {
    back.addEventListener("click", () => { page -= 1; draw(); });
    on.addEventListener("click", () => { page += 1; draw(); });
    tools.append(el("span", { class: "pager" }, back, on));
  }
  draw();
}

const DRAWN = { responsive: true, displayModeBar: false, showTips: false };

function figureTable(spec) {  // every series of a figure, a row a point
  const rows = [];
  for (const t of spec.data) {
    if (t.hoverinfo === "skip") continue;
    const x = t.x || [], y = t.y || [];
    for (let i = 0; i < Math.max(x.length, y.length); i++) rows.push([t.name, x[i], y[i], t.text && t.text[i] ? t.text[i].replace(/<[^>]+>/g, ", ") : ""]);
  }
  const said = (v) => (v === null || v === undefined ? "" : String(v));
  const axis = (a, other) => (spec.layout[a] && spec.layout[a].title && spec.layout[a].title.text) || other;
  const names = ["series", axis("xaxis", "x"), axis("yaxis", "y"), "note"];
  const csv = [names, ...rows].map((r) => r.map((v) => (/[",\n]/.test(said(v)) ? `"${said(v).replace(/"/g, '""')}"` : said(v))).join(",")).join("\n");
  const plain = (v) => { const d = el("textarea"); d.innerHTML = said(v); return d.value; };
  const body = el("tbody", {}, ...rows.slice(0, 500).map((r) => el("tr", {}, ...r.map((v, k) => el("td", k === 1 || k === 2 ? { class: "n" } : {}, plain(v))))));
  const head = el("thead", {}, el("tr", {}, ...names.map((n, k) => el("th", { scope: "col", ...(k === 1 || k === 2 ? { class: "n" } : {}) }, n))));
  return { csv: plain(csv), rows: rows.length, table: el("table", {}, head, body) };
}

function enhanceFigure(figure) {
  const place = figure.querySelector(".plot"), spec = json(place.dataset.spec);
  if (!spec || !window.Plotly) return;
  const narrow = place.clientWidth < 520;
  if (narrow) {
    spec.layout.font.size = 11;
    spec.layout.margin.l = 44;
    if (spec.layout.narrow) Object.assign(spec.layout, spec.layout.narrow);
  }
  delete spec.layout.narrow;
  place.replaceChildren();
  window.Plotly.newPlot(place, spec.data, spec.layout, DRAWN).then(() => { place.dataset.drawn = "yes"; });
  if (spec.link) {
    place.on("plotly_click", (event) => {
      const run = event.points[0].customdata;
      if (run) location.href = document.body.dataset.root + spec.link + run + ".html";
    });
  }
  const details = el("details", { class: "data" }, el("summary", {}, "The data of this figure"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const made = figureTable(spec), url = URL.createObjectURL(new Blob([made.csv], { type: "text/csv" }));
    const name = `${place.dataset.spec.replace(/-spec$/, "")}.csv`;
    details.append(
      el("p", { class: "small" }, el("a", { href: url, download: name }, "Download CSV"), made.rows > 500 ? ` (${made.rows} rows, of which 500 are shown)` : ""),
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "data of the figure" }, made.table));
  });
  figure.append(details);
}

document.querySelectorAll(".table").forEach(enhanceTable);
document.querySelectorAll("figure").forEach((f) => { if (f.querySelector(".plot")) enhanceFigure(f); });

// A printed page is as wide as paper, not as the window
const fit = (width) => document.querySelectorAll(".plot[data-drawn]").forEach((p) => window.Plotly.relayout(p, width ? { width, height: 380 } : { width: null, height: null, autosize: true }));
window.addEventListener("beforeprint", () => fit(680));
window.addEventListener("afterprint", () => fit(null));
document.documentElement.dataset.ready = "yes";
