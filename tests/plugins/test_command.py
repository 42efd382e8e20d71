"""A command from an installed package outside the project is a verb of `raysweep`, without an edit inside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
import sys
import click

@click.command()
@click.argument("name")
def greet(name):
    "Greet a study."
    click.echo(f"hello {name}")
    click.echo(" ".join(name for name in sys.modules if name.startswith("raysweep.commands.")))
"""
ENTRY_POINTS = """[raysweep.commands]
greet = greeting:greet
broken = greeting:no_such_function
number = greeting:sys
tune = greeting:greet
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with one distribution, as pip leaves it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "greeting.py").write_text(MODULE)
    info = folder / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info / "RECORD").write_text("greeting.py,,\n")
    return folder


def raysweep(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from raysweep.cli import main; main()", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_runs_and_no_other_command_is_imported(site: Path) -> None:
    process = raysweep(site, "greet", "fashion_cnn")
    assert process.returncode == 0, process.stderr
    greeting, loaded = process.stdout.splitlines()
    assert greeting == "hello fashion_cnn"
    assert loaded.split() == ["raysweep.commands.options"]


def test_the_help_lists_it_and_shows_why_another_cannot_be_loaded(site: Path) -> None:
    lines = raysweep(site, "--help").stdout.splitlines()
    (greet,) = (line for line in lines if line.split()[:1] == ["greet"])
    (broken,) = (line for line in lines if line.split()[:1] == ["broken"])
    assert "Greet a study." in greet
    assert "greeting has no 'no_such_function'" in broken


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["broken", "--anything", "x"], "greeting has no 'no_such_function'"),
        (["number"], "a command must be a click.Command, got module"),
        (["gret"], "did you mean 'greet'? Known: "),
        (["tune", "no_such"], "unknown study 'no_such'"),  # a built-in verb cannot be taken
    ],
)
def test_what_cannot_be_run_is_one_message_and_exit_2(site: Path, arguments: list[str], message: str) -> None:
    process = raysweep(site, *arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert message in process.stderr
    assert "Traceback" not in process.stderr
