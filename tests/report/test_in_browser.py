"""The page as headless Chromium shows it: charts are drawn, tables sort, all is there on paper, nothing complains."""

import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import axe_core_python
import pytest

from raysweep.report.page import write_report
from raysweep.report.section import Cell, render_table
from raysweep.run_folder import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
GAPS: list[list[Cell]] = [["b", math.nan], [None, 3.0], ["a", 1.0], [math.nan, None], ["c", 2.0]]
LOOK = """
<script>%s</script>
<script>
addEventListener("load", async () => {
  while (!document.documentElement.dataset.charts) await new Promise((resolve) => setTimeout(resolve, 50));
  const isFolded = () => [...document.querySelectorAll("details")].map((details) => !details.open);
  const folded = [isFolded()];
  for (const event of ["beforeprint", "afterprint"]) {
    dispatchEvent(new Event(event));
    folded.push(isFolded());
  }
  for (const details of document.querySelectorAll("details")) details.open = true;
  const isValue = (cell) => cell.textContent.trim() === "val/accuracy";
  const table = [...document.querySelectorAll("table.sortable")].find((one) => [...one.rows[0].cells].some(isValue));
  const column = [...table.rows[0].cells].findIndex(isValue);
  const read = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.value));
  const orders = [];
  for (let click = 0; click < 2; click++) {
    table.rows[0].cells[column].querySelector("button").click();
    orders.push(read());
  }
  const sorted = [...document.querySelectorAll("#gaps th")].flatMap((header, column) => [0, 1].map(() => {
    header.querySelector("button").click();
    return [...document.querySelectorAll("#gaps tbody tr")].map((row) => row.cells[column].textContent);
  }));
  const { violations, incomplete } = await axe.run();
  violations.push(...incomplete.filter((one) => one.error));  // a rule that could not be looked at
  const seen = {
    orders,
    sorted,
    folded,
    charts: document.querySelectorAll(".chart").length,
    drawn: document.querySelectorAll(".chart .main-svg .trace, .chart .main-svg .points").length,
    blank: [...document.images].filter((image) => !image.naturalWidth).length,
    wide: document.documentElement.scrollWidth - innerWidth,
    violations: violations.map((one) => one.id + ": " + one.nodes.map((node) => node.html).slice(0, 3).join(" ")),
  };
  const place = document.createElement("pre");
  place.id = "seen";
  place.textContent = JSON.stringify(seen);
  document.body.append(place);
});
</script>
</body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_drawn_sorts_and_is_accessible(finished: RunFolder, tmp_path: Path, scheme: str) -> None:
    table = render_table({"text": "", "number": ".1f"}, GAPS, "a table with gaps")
    page = write_report(finished).read_text(encoding="utf-8").replace("</body>", LOOK % AXE.read_text())
    page = page.replace("</main>", f'<div id="gaps">{table}</div></main>')
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    seen, complaints = look_at(path, scheme)
    assert complaints == []
    up, down = seen["orders"]
    assert up == sorted(up) == down[::-1]
    assert seen["sorted"] == [
        ["a", "b", "c", "–", "–"],
        ["c", "b", "a", "–", "–"],
        ["1.0", "2.0", "3.0", "–", "–"],
        ["3.0", "2.0", "1.0", "–", "–"],
    ]
    before, printed, after = seen["folded"]
    assert any(before)
    assert not any(printed)
    assert after == before
    assert seen["charts"] > 5
    assert seen["drawn"] > seen["charts"]
    assert seen["blank"] == 0
    assert seen["wide"] <= 0
    assert seen["violations"] == []


def look_at(path: Path, scheme: str) -> tuple[dict[str, Any], list[str]]:
    """What the page's script has seen, and what Chromium has written to the console."""
    assert CHROMIUM is not None
    flags = [
        f"--user-data-dir={path.parent / 'profile'}",
        f"--blink-settings=preferredColorScheme={scheme != 'dark':d}",
    ]
    flags += ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--virtual-time-budget=60000"]
    process = subprocess.run(
        [CHROMIUM, *flags, "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', process.stdout, re.DOTALL)
    assert found is not None, process.stderr
    complaints = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), complaints
