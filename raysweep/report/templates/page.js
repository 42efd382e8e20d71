"use strict";

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
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

function buildTemplate() {
  const colour = readColours();
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), automargin: true };
  return {
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("ink"), family: "system-ui, sans-serif", size: 13 },
      colorway: ["#0b7bc1", "#cb5f0e", "#0a8f6b", "#b4639a", "#8a8f00", "#5f6b7a"],
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") } },
      legend: { orientation: "h", yanchor: "bottom", y: 1.02, x: 0 },
      margin: { l: 56, r: 16, t: 32, b: 48 },
      xaxis: axis,
      yaxis: axis,
    },
  };
}

async function drawCharts() {
  const charts = document.querySelectorAll(".chart");
  if (!charts.length) return;
  await loadPlotly();
  const template = buildTemplate();
  for (const chart of charts) {
    const figure = JSON.parse(chart.querySelector("script").textContent);
    const layout = { ...figure.layout, template, autosize: true, height: chart.clientHeight, width: undefined };
    await Plotly.newPlot(chart.appendChild(document.createElement("div")), figure.data, layout, {
      displaylogo: false,
      displayModeBar: false,
      responsive: true,
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const chart of charts) Plotly.relayout(chart.lastElementChild, { template: buildTemplate() });
  });
}

function compareCells(left, right) {
  const read = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const [a, b] = [read(left), read(right)];
  if ("value" in left.dataset) return (a === "") - (b === "") || a - b;
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortTable(header) {
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = header.closest("table").tBodies[0];
  const column = header.cellIndex;
  const rows = [...body.rows].sort((a, b) => compareCells(a.cells[column], b.cells[column]));
  body.append(...(down ? rows.reverse() : rows));
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => sortTable(header));
}
drawCharts();
