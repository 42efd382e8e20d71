"""What a trial sends to the driver: it survives the way through Ray, which has to know nothing of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.train.report import EpochReport, TrialFailure, pack_report, unpack_report

EPOCH = EpochReport(
    metrics={"epoch": 2.0, "val/accuracy": 0.5},
    value=0.5,
    best_value=0.6,
    best_epoch=1,
    finished=True,
    cause="collapse",
)


@pytest.mark.parametrize("report", [EPOCH, TrialFailure(error="ValueError: NaN", died=False)])
def test_a_report_survives_beside_ray_tunes_own_keys(report: EpochReport | TrialFailure) -> None:
    message = pack_report(report)
    assert [type(value) for value in message.values()] == [bytes]
    assert unpack_report({**message, "training_iteration": 2, "time_this_iter_s": 0.1}) == report


def test_what_only_knows_of_reports_imports_neither_torch_nor_ray() -> None:
    code = "import sys, raysweep.train.report as r; print({'torch', 'ray', 'numpy'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "set()\n"


def test_an_epoch_is_plain_values_that_a_history_can_hold() -> None:
    report = unpack_report(pack_report(EPOCH))
    assert isinstance(report, EpochReport)
    assert json.loads(json.dumps(report.metrics)) == EPOCH.metrics
