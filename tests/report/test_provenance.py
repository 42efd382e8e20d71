"""The command that repeats a run: its study can be loaded, its flags are legal, its storage is the run's."""

import json
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from raysweep.catalogue import load_study
from raysweep.report.provenance import build_command
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder
from raysweep.search.overrides import parse_duration
from raysweep.search.session.identity import StudyRecord, load_record, save_record
from raysweep.search.session.opening import enter_run
from raysweep.search.start import resolve_search

FILE = """
import dataclasses
from raysweep.catalogue import load_study
STUDY = dataclasses.replace(load_study("fashion_cnn"), name="cats and dogs")
"""


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., RunFolder]:
    """`(study, **values)` -> the folder of its run, whose study.json is written as `tune` begins or goes on."""

    def begin(study: Any, **values: Any) -> RunFolder:
        resolved, options = resolve_search(study, {"storage": tmp_path / "runs", "name": "first", **values})
        with ExitStack() as stack:
            _, identity = enter_run(resolved, options, stack)
            options.run_folder.path.mkdir(parents=True, exist_ok=True)
            save_record(options.run_folder, StudyRecord(study=resolved.to_json(), identity=identity, data_digest="0"))
        return options.run_folder

    return begin


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """A file whose study is named otherwise, in a folder whose name a shell would take apart."""
    path = tmp_path / "my studies" / "animals.py"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def read_command(folder: RunFolder) -> list[str]:
    """The words after `python -m platform.tune`, as a shell makes them."""
    return shlex.split(build_command(load_view(folder)))[3:]


def test_a_named_study_is_named(
    begin: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = begin("fashion_cnn", trials=4)
    words = read_command(folder)
    assert words[0] == "fashion_cnn"
    assert load_study(words[0]).name == "fashion_cnn"
    assert words[1:] == ["--trials", "4", "--storage", str(tmp_path / "runs"), "--name", "first-again"]
    (tmp_path / "runs").rename(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert "--storage" not in read_command(RunFolder(tmp_path / "results" / "first")), "it is the default"


def test_a_study_in_a_file_is_named_by_its_path_from_any_folder(
    begin: Callable[..., RunFolder], study_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(study_file.parent)
    folder = begin("./animals.py")
    monkeypatch.chdir(tmp_path)
    (argument, *_) = read_command(folder)
    assert argument == str(study_file)
    assert load_study(argument).name == "cats and dogs"


def test_a_run_that_goes_on_has_its_study_where_it_is_now(begin: Callable[..., RunFolder], study_file: Path) -> None:
    begin(str(study_file))
    moved = study_file.rename(study_file.with_name("moved.py"))
    folder = begin(str(moved), resume=True)
    assert read_command(folder)[0] == str(moved)
    begin(load_study(str(moved)), resume=True)
    assert read_command(folder)[0] == str(moved), "a program's own study has no file"


def test_a_run_of_an_earlier_version_has_the_name_of_its_study(begin: Callable[..., RunFolder]) -> None:
    folder = begin("fashion_cnn")
    values = json.loads(folder.study.read_text())
    del values["study_argument"], values["checksum"]
    folder.study.write_text(json.dumps(values))
    record = load_record(folder)
    assert record is not None
    assert record.identity.study_argument is None
    assert "study_argument" not in record.study
    assert read_command(folder)[0] == "fashion_cnn"


@pytest.mark.parametrize("time_s", [90.0, 0.5, 1234567.0, 86400.0 * 300])
def test_a_time_budget_can_be_given_as_it_is_printed(begin: Callable[..., RunFolder], time_s: float) -> None:
    words = read_command(begin("fashion_cnn", time_s=time_s))
    assert parse_duration(words[words.index("--time-budget") + 1]) == time_s
