"""The report while a run goes on: it appears by itself, is whole at the end, and ends no run."""

import dataclasses
import errno
import os
import shutil
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from raysweep.report import writer
from raysweep.report.writer import ReportWriter
from raysweep.run_folder import RunFolder
from raysweep.search.session.identity import load_record, save_record
from raysweep.search.session.storage import open_storage


def test_the_page_appears_while_the_search_goes_on(under_way: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PERIOD_S", 0.01)
    with ReportWriter(under_way) as report:
        report.begin()
        report.epoch_ended(7, {})
        while not under_way.report.is_file():
            time.sleep(0.02)
        under_way.report.unlink()
    assert under_way.report.is_file()


@pytest.mark.parametrize(("duration_s", "pause_s"), [(0.01, 10.0), (0.5, 25.0), (1.2, 60.0), (30.0, 60.0)])
def test_a_page_is_never_much_older_than_a_minute(duration_s: float, pause_s: float) -> None:
    assert writer.choose_pause(duration_s) == pause_s


def test_a_run_that_was_not_begun_is_not_written_to(under_way: RunFolder) -> None:
    under_way.report.unlink(missing_ok=True)
    with ReportWriter(under_way):
        pass
    assert not under_way.report.exists()


def test_a_page_that_cannot_be_written_is_one_sentence(
    under_way: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    under_way.report.mkdir()
    with ReportWriter(under_way) as report:
        report.begin()
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "a folder is there" in said
    under_way.report.rmdir()


def test_a_stderr_that_takes_nothing_ends_no_run(under_way: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Full:
        def write(self, text: str) -> int:
            said.append(text)
            raise OSError(errno.ENOSPC, "No space left on device")

    under_way.report.mkdir()
    monkeypatch.setattr("sys.stderr", Full())
    with ReportWriter(under_way) as report:
        report.begin()
    assert "could not be written" in said[0]
    under_way.report.rmdir()


def test_a_report_that_is_older_than_the_results_is_written_again(
    under_way: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[RunFolder] = []
    monkeypatch.setattr(writer, "write_quietly", lambda folder, storage_url: written.append(folder))
    under_way.results.write_text("{}")
    writer.write_if_stale(under_way)
    under_way.report.write_text("page")
    os.utime(under_way.report, (1, 1))
    writer.write_if_stale(under_way)
    os.utime(under_way.results, (0, 0))
    writer.write_if_stale(under_way)
    assert written == [under_way, under_way]
    under_way.report.unlink()
    under_way.results.unlink()


def test_a_database_with_a_password_is_read_by_the_search_that_knows_it(under_way: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(under_way.path, folder.path)
    record = load_record(folder)
    assert record is not None
    url = f"sqlite:///file:{tmp_path}/optuna.db?uri=true&password=secret"
    optuna.copy_study(
        from_study_name=record.identity.study_name,
        from_storage=open_storage(folder, None),
        to_storage=RDBStorage(url),
    )
    folder.journal.unlink()
    save_record(folder, dataclasses.replace(record, identity=dataclasses.replace(record.identity, storage_url=url)))
    with ReportWriter(folder) as report:
        report.begin(url)
    page = folder.report.read_text()
    assert "How the search went" in page
    assert "secret" not in page
