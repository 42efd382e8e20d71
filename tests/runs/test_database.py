"""Runs whose Optuna study is in a database: with a password, out of reach, or gone; to look makes none."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages import RDBStorage

from raysweep.commands.evaluate import evaluate
from raysweep.commands.report import report
from raysweep.commands.show import show
from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate import final
from raysweep.report.page import write_report
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder
from raysweep.runs.cleaning import clean
from raysweep.runs.comparison import compare_runs
from raysweep.runs.listing import describe_run, describe_runs, find_begin
from raysweep.search import reevaluate
from raysweep.search.results import load_results
from raysweep.search.session.identity import load_record, save_record
from raysweep.search.session.opening import open_strategy
from raysweep.search.session.storage import open_storage
from raysweep.search.status import look_at_run
from raysweep.study import Study

MakeRun = Callable[..., RunFolder]
NEEDED = "in the database sqlite:///file.*, whose password is not stored; .* with --optuna-storage"


def move_study(run: RunFolder, url: str) -> None:
    """Moves the Optuna study of a run from its journal to a database, as if the run had begun with its URL."""
    record = load_record(run)
    assert record is not None
    name = record.identity.study_name
    if url.startswith("sqlite"):
        optuna.copy_study(from_study_name=name, from_storage=open_storage(run, None), to_storage=RDBStorage(url))
    run.journal.unlink()
    save_record(run, dataclasses.replace(record, identity=dataclasses.replace(record.identity, storage_url=url)))


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> tuple[RunFolder, str]:
    """A finished run whose study is in a database with a password, and the database's URL."""
    storage = tmp_path_factory.mktemp("secret")
    run, url = make_run(storage / "cars", num_trials=3), f"sqlite:///file:{storage}/cars.db?uri=true&password=s3cr3t"
    move_study(run, url)
    return run, url


@pytest.fixture
def gone(tmp_path: Path, make_run: MakeRun) -> tuple[RunFolder, Path]:
    """A finished run whose database is gone, and where that was."""
    run, database = make_run(tmp_path / "cars", num_trials=2), tmp_path / "cars.db"
    move_study(run, f"sqlite:///{database}")
    database.unlink()
    return run, database


def test_a_run_whose_password_is_not_known_is_not_damaged(secret: tuple[RunFolder, str]) -> None:
    run, _ = secret
    entry = describe_run(run)
    assert (entry.state, entry.num_ended, entry.num_asked) == ("finished", 3, 3)
    text = describe_runs([entry], find_begin(load_view(run, storage_url=secret[1])))  # type: ignore[arg-type]
    assert "whose password is not stored" in text
    assert "s3cr3t" not in text
    assert look_at_run(run).state == "finished"


def test_how_far_an_unfinished_one_is_is_left_open(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "cars", num_trials=2, end="trial")
    move_study(run, f"sqlite:///file:{tmp_path}/cars.db?uri=true&password=s3cr3t")
    entry = describe_run(run)
    assert (entry.state, entry.num_ended) == ("interrupted", None)
    assert describe_run(make_run(tmp_path / "other", num_trials=2, end="trial")).num_ended == 1


def test_the_url_opens_what_is_in_the_database(secret: tuple[RunFolder, str]) -> None:
    run, url = secret
    shown = CliRunner().invoke(show, [str(run.path), "--optuna-storage", url], catch_exceptions=False).stdout
    assert shown.count(" complete ") == 3
    assert "not stored" not in shown
    assert "s3cr3t" not in shown
    with pytest.raises(UsageError, match=NEEDED):
        CliRunner().invoke(show, [str(run.path), "1"], catch_exceptions=False)
    for wrong in (url.replace("cars.db", "vans.db"), "no url"):
        with pytest.raises(UsageError, match="the run's Optuna storage is sqlite"):
            load_view(run, storage_url=wrong)
    assert not (run.storage / "vans.db").exists()


def test_a_report_is_not_replaced_by_one_that_lacks_the_search(secret: tuple[RunFolder, str]) -> None:
    run, url = secret
    run.report.write_text("a page with the search")
    with pytest.raises(UsageError, match=NEEDED):
        CliRunner().invoke(report, [str(run.path)], catch_exceptions=False)
    assert run.report.read_text() == "a page with the search"
    CliRunner().invoke(report, [str(run.path), "--optuna-storage", url], catch_exceptions=False)
    assert "How the search went" in run.report.read_text()


def test_the_evaluation_writes_the_report_with_the_url_or_says_that_it_did_not(
    secret: tuple[RunFolder, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, url = secret
    test = dataclasses.replace(load_results(run).test, openings=2)
    monkeypatch.setattr(reevaluate, "find_data", lambda folder, data_root: (None, folder.test))
    monkeypatch.setattr(final, "evaluate_final", lambda *args, **options: test)
    run.report.write_text("a page with the search")
    assert reevaluate.reevaluate(run, None) is test
    assert "whose password is not stored" in capsys.readouterr().err
    assert run.report.read_text() == "a page with the search"
    done = CliRunner().invoke(evaluate, [str(run.path), "--optuna-storage", url], catch_exceptions=False)
    assert "has been opened 2 times" in done.stdout
    assert "How the search went" in run.report.read_text()


def test_nothing_is_deleted_of_a_run_whose_trials_are_not_known(secret: tuple[RunFolder, str]) -> None:
    run, _ = secret
    cleaning = clean(run.path, delete=True)
    assert cleaning.items == []
    assert "whose password is not stored" in cleaning.passed_over[0]


def test_a_database_that_does_not_answer_damages_no_run(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "cars", num_trials=1)
    move_study(run, "postgresql://127.0.0.1:1/none")  # no such server, or no driver for it
    entry = describe_run(run)
    assert entry.state == "finished"
    assert "no Optuna storage at --optuna-storage postgresql://127.0.0.1:1/none" in (entry.problem or "")


def test_to_look_at_a_run_whose_database_is_gone_makes_none(gone: tuple[RunFolder, Path], study: Study) -> None:
    run, database = gone
    entry = describe_run(run)
    assert entry.state == "damaged"
    assert f"the database {database}, the Optuna study of a run, is gone" in (entry.problem or "")
    shown = CliRunner().invoke(show, [str(run.path)], catch_exceptions=False).stdout
    assert "is gone" in shown
    look_at_run(run)
    compare_runs([load_view(run), load_view(run)])
    assert "is gone" in write_report(run).read_text()
    record: Any = load_record(run)
    with pytest.raises(CorruptFileError, match="is gone"):  # as --resume does
        open_strategy(study, run, record.identity)
    assert not database.exists()


def test_a_database_that_lost_the_study_is_said(gone: tuple[RunFolder, Path]) -> None:
    run, database = gone
    RDBStorage(f"sqlite:///{database}")
    assert "must have the Optuna study 'small', which is not there" in (describe_run(run).problem or "")
