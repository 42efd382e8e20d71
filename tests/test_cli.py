"""The command line: what is printed where, and exit code 2 with one clear message before any training."""

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from raysweep.commands.options import describe_resume
from raysweep.errors import UsageError
from raysweep.search.options import check_name
from raysweep.search.overrides import parse_duration

ROOT = Path(__file__).resolve().parent.parent


def tune(
    *arguments: str | Path, env: dict[str, str] | None = None, verb: str = "tune"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"platform.{verb}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=env,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["car_resnt"], "did you mean 'car_resnet'"),
        (["fashion_cnn", "--data", "/no/such/folder"], "Three ways to go on"),
        (["fashion_cnn", "--set", "task.lr=1"], "unknown field 'task.lr'"),
        (["fashion_cnn", "--set", "training.epochs=0"], "training.epochs must be at least 1"),
        (["fashion_cnn", "--trials", "0"], "the number of trials must be at least 1, got 0"),
        (["fashion_cnn", "--max-epochs", "0"], "--max-epochs must be at least 1"),
        (["fashion_cnn", "--time-budget", "soon"], "such as 90s or 2h"),
        (["fashion_cnn", "--finalists", "3"], "--seeds S, at least 2, go together"),
        (
            ["fashion_cnn", "--finalists", "3", "--seeds", "2", "--second-objective", "model/num_parameters"],
            "the best by one objective, got two",
        ),
        (["fashion_cnn", "--second-objective", "model/latency"], "did you mean 'model/latency_ms'? Known: "),
        (
            ["fashion_cnn", "--second-objective", "val/loss:minimize", "--pruner", "asha"],
            "takes no intermediate values",
        ),
        (["fashion_cnn", "--name", "../x"], "is a folder's name"),
        (["fashion_cnn", "--workers", "0"], "x>=1"),
        (["fashion_cnn", "--data", "sample", "--workers", "400"], "lower --workers"),
        (
            ["car_resnet", "--data", "sample", "--set", "task.pretrained=false", "--set", "task.model=resnet10tt"],
            "resnet10t",
        ),
        (["fashion_cnn", "--data", "sample", "--set", "task.pretrained=true"], "no pretrained weights"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_2_before_any_training(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    process = tune(*arguments, "--storage", tmp_path)
    assert process.returncode == 2, process.stderr
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    assert time.monotonic() - began < 60
    assert not list(tmp_path.glob("*/trials"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fashion_cnn", "--cluster", "/no/such/file"], "does not exist"),
        (["fashion_cnn", "--set", "training.epochs=0"], "training.epochs must be at least 1"),
        (["fashion_cnn", "--data", "sample", "--workers", "400"], "lower --workers"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_message_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    process = tune(*arguments, "--storage", tmp_path, "--address", "local", verb="plan")
    assert (process.returncode, process.stdout) == (2, "")
    assert message in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1.5h", 5400), ("1d", 86400)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0s", "2 h", "1h30m"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s or 2h"):
        parse_duration(text)


@pytest.mark.parametrize("name", ["a", "run_1", "2024-01-01.b"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b"])
def test_names_that_are_no_folders(name: str) -> None:
    with pytest.raises(UsageError, match="is a folder's name"):
        check_name(name)


@pytest.mark.parametrize(
    ("arguments", "resume"),
    [
        (["cars"], "cars --resume"),
        (["cars", "--resume", "--name", "my run"], "cars --resume --name 'my run'"),
        (["cars", "--trials", "4", "--wandb=offline"], "cars --wandb=offline --resume"),
        (["cars", "--trials=4"], "cars --resume"),
        (["cars", "--notify", "json://me:secret@host"], "cars --notify ... --resume"),
        (["cars", "--optuna-storage=mysql://me:secret@host/db"], "cars --optuna-storage ... --resume"),
    ],
)
def test_the_line_to_resume_by_has_no_secret_and_nothing_that_the_run_remembers(
    arguments: list[str], resume: str
) -> None:
    context = click.Context(click.Command("tune"), info_name="python -m platform.tune", obj=arguments)
    assert describe_resume(context) == f"python -m platform.tune {resume}"


def test_studies_shows_task_data_space_and_baseline() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "platform.studies"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for text in ("car_resnet", "fashion_cnn", "classification", "training.epochs", "baseline 0.001"):
        assert text in process.stdout
    assert "0.0002 to 0.005, logarithmic   baseline 0.001" in process.stdout
    assert "none, 0.99, 0.999   baseline none" in process.stdout
