"use strict";

const PRINT = { ink: "#000000", line: "#cccccc", paper: "#ffffff" };
const PRINT_WIDTH = 680;
const dark = matchMedia("(prefers-color-scheme: dark)");

// Plotly's code travels compressed, as it is most of the page.
async function loadPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(Object.keys(PRINT).map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function buildTemplate({ ink, line, paper }) {
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, exponentformat: "power", title: { standoff: 8 } };
  return {
    data: {
      heatmap: [{ colorbar: { outlinewidth: 0 } }],
    },
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 13 },
      colorway: ["#0b7bc1", "#cb5f0e", "#0a8f6b", "#b4639a", "#7a8794"],
      hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink } },
      hovermode: "closest",
      legend: { orientation: "h", yanchor: "bottom", y: 1.01, x: 0 },
      margin: { l: 48, r: 12, t: 36, b: 44 },
      xaxis: axis,
      yaxis: axis,
    },
  };
}

async function drawCharts() {
  const charts = [...document.querySelectorAll(".chart")];
  if (!charts.length) return;
  await loadPlotly();
  for (const chart of charts) {
    const figure = JSON.parse(chart.querySelector("script").textContent);
    const place = chart.appendChild(document.createElement("div"));
    const layout = { ...figure.layout, template: buildTemplate(readColours()), autosize: true, height: place.clientHeight };
    delete layout.width;
    if (layout.showlegend === false) layout.margin = { ...layout.margin, t: 12 };
    await Plotly.newPlot(place, figure.data, layout, { displayModeBar: false, responsive: true });
  }
  const restyle = (changes) => Promise.all(charts.map((chart) => Plotly.relayout(chart.lastElementChild, changes(chart))));
  dark.addEventListener("change", () => restyle(() => ({ template: buildTemplate(readColours()) })));
  addEventListener("beforeprint", () => {
    restyle((chart) => ({
      template: buildTemplate(PRINT),
      width: chart.closest(".grid") ? PRINT_WIDTH / 2 - 12 : PRINT_WIDTH,
    }));
  });
  addEventListener("afterprint", () => {
    restyle((chart) => ({ template: buildTemplate(readColours()), width: chart.lastElementChild.clientWidth }));
  });
  document.documentElement.dataset.charts = "drawn";
}

// On paper all is there: what was folded before printing is folded again after it.
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded.splice(0)) details.open = false;
});

function compareCells(left, right) {
  const read = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const [a, b] = [read(left), read(right)];
  return "value" in left.dataset ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

// Cells without a value stay last, whichever way a column is sorted.
function sortTable(header) {
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = header.closest("table").tBodies[0];
  const cell = (row) => row.cells[header.cellIndex];
  const isEmpty = (row) => cell(row).dataset.value === "";
  const rows = [...body.rows];
  const filled = rows.filter((row) => !isEmpty(row)).sort((a, b) => compareCells(cell(a), cell(b)));
  body.append(...(down ? filled.reverse() : filled), ...rows.filter(isEmpty));
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => sortTable(header));
}

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const inView = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-15% 0px -80% 0px" },
);
for (const chapter of document.querySelectorAll(".chapter")) inView.observe(chapter);

drawCharts();
