"""What the report says of the cost of a run: also of one from before waits for data were measured."""

import dataclasses
import re

from raysweep.report.cost import build_cost_sections
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder
from raysweep.train.history import DATA_WAIT


def test_the_wait_for_data_stands_beside_the_speed(under_way: RunFolder) -> None:
    view = load_view(under_way)
    num_epochs = sum(map(len, view.histories.values()))
    (section,) = build_cost_sections(view)
    assert "training speed of a trial" in section.html
    assert f"{0.08 * num_epochs:,.1f} s, 10." in section.html, "80 images at a little over 100 a second: 0.08 of 0.77 s"


def test_finalists_have_lines_of_their_own(retrained: RunFolder, under_way: RunFolder) -> None:
    view = load_view(retrained)
    text = re.sub("<[^>]*>", " ", build_cost_sections(view)[0].html)
    assert "trials that have ended  3, in 33 s" in text
    assert f"epochs trained  {sum(map(len, view.histories.values()))} " in text
    assert "trainings of finalists that have ended  3, in 33 s" in text
    assert "epochs trained of finalists  7 " in text, "that which is under way is one of the four"
    assert "finalists" not in build_cost_sections(load_view(under_way))[0].html


def test_a_run_from_before_it_was_measured_tells_the_rest(under_way: RunFolder) -> None:
    view = load_view(under_way)
    old = {
        number: [{name: value for name, value in row.items() if name != DATA_WAIT} for row in history]
        for number, history in view.histories.items()
    }
    (section,) = build_cost_sections(dataclasses.replace(view, histories=old))
    assert "training speed of a trial" in section.html
    assert "waited for data" not in section.html
