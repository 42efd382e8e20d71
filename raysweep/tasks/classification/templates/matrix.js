{
  const matrix = document.querySelector("table.matrix");
  const panel = document.getElementById("confused");
  const show = (button) => {
    for (const other of matrix.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    const found = new Map();
    for (const figure of document.querySelectorAll(`figure[data-cell="${button.dataset.cell}"]`)) {
      if (!figure.closest("#confused")) found.set(figure.dataset.row, figure);
    }
    const text = document.createElement("p");
    const isAll = found.size === Number(button.textContent);
    text.textContent = button.getAttribute("aria-label") + (isAll ? "" : `, ${found.size || "none"} of them kept to look at`);
    const gallery = document.createElement("div");
    gallery.className = "gallery";
    gallery.append(...[...found.values()].map((figure) => figure.cloneNode(true)));
    panel.replaceChildren(text, gallery);
  };
  matrix.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) show(button);
  });
  // The fullest error is shown at once, and so is on paper too.
  const errors = [...matrix.querySelectorAll("td.wrong button")];
  const fullest = errors.sort((a, b) => b.textContent - a.textContent)[0];
  document.addEventListener("DOMContentLoaded", () => fullest && show(fullest));
}
