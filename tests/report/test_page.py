"""The page of a run at any time: what it holds, that names stay text, and how large it grows."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.cli import load_command, run_command
from raysweep.config import Budget, Objective
from raysweep.report.page import write_report
from raysweep.report.run_view import load_view
from raysweep.report.section import render_table
from raysweep.run_folder import RunFolder

EVIL = "<img src=x onerror=alert(1)>"
SECOND = Objective(metric="model/num_parameters", direction="minimize")


def read(folder: RunFolder) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def list_titles(page: str) -> list[str]:
    return re.findall(r"<h[23][^>]*>([^<]*)", page)


def test_a_finished_run_is_told_from_headline_to_provenance(finished: RunFolder) -> None:
    page = read(finished)
    titles = list_titles(page)
    chapters = ["Configuration", "Search", "Test images", "Failures", "Cost", "Provenance"]
    assert [title for title in titles if title in chapters] == chapters
    search = ["How the search went", "Learning curves", "Which trial ran when", "What mattered", "All settings at once"]
    assert [title for title in titles if title in search] == search
    assert "Failed trials (1 of 12)" in titles
    assert "1.00 (nodes at 3.6 an hour, your prices)" in page
    assert "python -m platform.tune small --trials 12 --set task.dropout=0.5 --sampler random" in page


def test_names_of_users_stay_text(finished: RunFolder) -> None:
    page = read(finished)
    assert EVIL not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3  # a cause, its traceback, a file left out
    assert EVIL not in render_table({EVIL: "", "n": "d"}, [[EVIL, 1]], EVIL)


@pytest.mark.parametrize("spec", ["", ".3f"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_dash_is_no_value_to_sort_by(value: float | None, spec: str) -> None:
    (cell,) = re.findall("<td.*</td>", render_table({"n": spec}, [[value]], "rows"))
    assert 'data-value=""' in cell
    assert ">–<" in cell


def test_nothing_is_fetched_from_elsewhere(finished: RunFolder) -> None:
    page = read(finished)
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", page)
    assert "default-src 'none'" in page


def test_a_run_under_way_has_its_search_and_no_test(under_way: RunFolder) -> None:
    page = read(under_way)
    assert {"Learning curves", "All trials", "Cost"} <= set(list_titles(page))
    assert "forecast of interrupted" in page
    assert "The test images are opened once, after the search" in page


def test_a_run_before_its_first_trial_has_a_page(record_run: Callable[..., Any]) -> None:
    assert "None of 12 trials has ended yet" in read(record_run("fresh").folder)


def test_two_objectives_have_a_front(record_run: Callable[..., Any]) -> None:
    run = record_run("two", second_objective=SECOND)
    for _ in range(6):
        run.end(run.start())
    run.finish()
    assert "Pareto front" in list_titles(read(run.folder))


def test_trials_after_the_last_end_are_told_apart_from_the_result(record_run: Callable[..., Any]) -> None:
    run = record_run("extended")
    run.end(run.start())
    run.finish()
    run.end(run.start())
    assert "since then: 2 of 12 trials have ended" in read(run.folder)


def test_what_is_damaged_is_named_and_the_rest_is_shown(record_run: Callable[..., Any]) -> None:
    run = record_run("damaged")
    run.end(run.start())
    run.finish()
    run.folder.trial(0).metrics.write_text("{")
    run.folder.journal.write_text("{}\n")
    page = read(run.folder)
    assert page.count("Cannot be shown:") == 2
    assert "No configuration beat the baseline" in page


def test_a_hundred_trials_stay_below_5_mb(record_run: Callable[..., Any]) -> None:
    run = record_run("hundred", budget=Budget(trials=100))
    for _ in range(100):
        run.end(run.start())
    run.finish()
    write_report(run.folder)
    assert 1e6 < run.folder.report.stat().st_size < 5e6


def test_a_task_of_ones_own_that_fails_ends_no_report(finished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "raysweep.tasks.classification.config.ClassificationConfig.report_sections"
    monkeypatch.setattr(config, "builtins:divmod")  # of a folder and results
    assert "The task&#39;s sections failed: TypeError" in read(finished)


def test_the_command_writes_the_page_of_a_run_only(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished.report.unlink(missing_ok=True)
    run_command(load_command("report"), [str(finished.path)], "raysweep report")
    with pytest.raises(SystemExit) as end:
        run_command(load_command("report"), [str(tmp_path)], "raysweep report")
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == f"{finished.report}\n"
    assert "is not the folder of a run" in said.err
    assert load_view(finished).faults == ()
