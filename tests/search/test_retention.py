"""Which checkpoints stay on disk, without Ray."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.catalogue import load_study
from raysweep.config import KEEP_LEADING, Budget, Objective
from raysweep.run_folder import SearchFolder
from raysweep.search.retention import KEEP_FRONT, Retention, count_kept, keep_for_search
from raysweep.study import Study
from raysweep.trial_result import Params, TrialResult

SIZE = Objective(metric="model/num_parameters", direction="minimize")


def write_checkpoints(run: Path, number: int) -> None:
    folder = SearchFolder(run).trial(number)
    for path in (folder.weights, folder.checkpoint):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)


def kept(run: Path, name: str = "best") -> list[int]:
    return sorted(int(path.parent.name) for path in run.glob(f"trials/*/{name}"))


def end(
    number: int, value: Any, state: Any = "COMPLETE", second_value: float | None = None, **params: Any
) -> TrialResult:
    return TrialResult(
        number=number,
        state=state,
        value=value,
        second_value=second_value,
        best_epoch=1,
        params=params,
        duration_s=1.0,
    )


@pytest.mark.parametrize("sessions", [1, 3])
@pytest.mark.parametrize("num_leading", [1, KEEP_LEADING])
def test_disk_use_is_bounded_and_the_best_is_never_removed(
    tmp_path: Path, make_study: Callable[..., Study], sessions: int, num_leading: int
) -> None:
    values = [0.1, 0.5, 0.9, 0.3, 0.9, 0.2, 0.9, 0.95, 0.0, 0.9, 0.4, 0.91]
    order = [0, 2, 1, 4, 3, 6, 5, 9, 8, 7, 11, 10]
    keep = keep_for_search(make_study(), num_leading)
    ended: list[TrialResult] = []
    for part in range(sessions):
        for result in ended:  # as if the driver had been killed each time before it removed anything
            write_checkpoints(tmp_path, result.number)
        retention = Retention(SearchFolder(tmp_path), ended, keep)
        for number in order[len(ended) : (part + 1) * 12 // sessions]:
            write_checkpoints(tmp_path, number)
            ended.append(end(number, values[number], "PRUNED" if number == 9 else "COMPLETE"))
            retention.trial_ended(ended[-1])
            complete = [r for r in ended if r.state == "COMPLETE"]
            leading = sorted(complete, key=lambda r: (-values[r.number], r.number))[:num_leading]
            assert kept(tmp_path) == sorted({0} | {r.number for r in leading})
            assert kept(tmp_path, "last") == []
    assert kept(tmp_path) == ([0, 7] if num_leading == 1 else [0, 2, 7, 11])


def test_what_a_crash_left_behind_is_removed_and_what_is_in_flight_or_has_failed_stays(
    tmp_path: Path, make_study: Callable[..., Study]
) -> None:
    study = make_study(objective=Objective(metric="val/loss", direction="minimize"))
    for number in range(6):
        write_checkpoints(tmp_path, number)
    ended = [end(0, 0.1), end(1, 0.2), end(2, None, "FAIL"), end(3, 0.9, "PRUNED")]
    retention = Retention(SearchFolder(tmp_path), ended, keep_for_search(study))
    assert kept(tmp_path) == [0, 1, 2, 4, 5]
    assert kept(tmp_path, "last") == [2, 4, 5]
    retention.trial_ended(end(4, 0.01, "FAIL"))
    assert kept(tmp_path) == [0, 1, 2, 4, 5]
    assert kept(tmp_path, "last") == [2, 4, 5]


def test_models_of_the_front_are_kept_as_long_as_they_are_on_it(
    tmp_path: Path, make_study: Callable[..., Study]
) -> None:
    retention = Retention(SearchFolder(tmp_path), [], keep_for_search(make_study(second_objective=SIZE)))
    for number in range(8):  # each better and larger: all on the front
        write_checkpoints(tmp_path, number)
        retention.trial_ended(end(number, 0.5 + number / 100, second_value=100.0 + 10 * number))
        assert kept(tmp_path) == list(range(number + 1))
    write_checkpoints(tmp_path, 8)
    retention.trial_ended(end(8, 0.54, second_value=50.0))  # beats the first four, equals the fifth and is smaller
    assert kept(tmp_path) == [0, 5, 6, 7, 8]


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(40)), data=st.data())
def test_of_a_long_front_both_ends_are_kept_and_not_more_than_so_many(
    make_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory, order: list[int], data: st.DataObject
) -> None:
    run = tmp_path_factory.mktemp("run")
    retention = Retention(SearchFolder(run), [], keep_for_search(make_study(second_objective=SIZE), num_leading=1))
    ended: list[TrialResult] = []
    for number, place in enumerate(order):
        write_checkpoints(run, number)
        ended.append(end(number, 0.5 + place / 100, second_value=100.0 + 10 * place))
        retention.trial_ended(ended[-1])
        if data.draw(st.booleans(), label="the driver is started again"):
            retention = Retention(
                SearchFolder(run), ended, keep_for_search(make_study(second_objective=SIZE), num_leading=1)
            )
        best = max(ended, key=lambda result: result.value or 0).number
        smallest = min(ended, key=lambda result: result.second_value or 0).number
        assert {0, best, smallest} <= set(kept(run))
        assert len(kept(run)) <= 1 + KEEP_FRONT


def test_the_best_of_each_size_of_code_is_kept_for_the_final_evaluation(tmp_path: Path) -> None:
    study = load_study("fashion_autoencoder")
    assert study.objective.direction == "minimize"

    def dense(number: int, value: Any, size: int, state: Any = "COMPLETE") -> TrialResult:
        params: Params = {"task.bottleneck": "dense", "task.latent_size": size}
        return end(number, value, state, **params)

    spatial: Params = {"task.bottleneck": "spatial"}

    ended = [
        end(0, 0.9, **spatial),
        dense(1, 0.8, 2),
        dense(2, 0.7, 2),
        dense(3, 0.75, 2, "PRUNED"),
        dense(4, 0.6, 4, "PRUNED"),
        dense(5, 0.1, 8, "FAIL"),
        *(dense(number, 0.01, 64) for number in (6, 7, 8)),
        end(9, 0.5, **spatial, **{"task.width": 2.0}),
        end(10, 0.4, "PRUNED", **spatial, **{"task.width": 2.0}),
    ]
    retention = Retention(SearchFolder(tmp_path), [], keep_for_search(study))
    for result in ended:
        write_checkpoints(tmp_path, result.number)
        retention.trial_ended(result)
    assert kept(tmp_path) == [0, 2, 4, 5, 6, 7, 8, 10]


def test_how_many_are_kept_is_known_before(make_study: Callable[..., Study]) -> None:
    assert count_kept(make_study()) == 1 + KEEP_LEADING
    assert count_kept(make_study(budget=Budget(trials=2))) == 2
    assert count_kept(make_study(budget=Budget(trials=50), second_objective=SIZE)) == 1 + KEEP_LEADING + KEEP_FRONT
    sizes, widths = 8, 4
    assert count_kept(load_study("fashion_autoencoder")) == 1 + KEEP_LEADING + sizes + widths
    fixed = load_study("fashion_autoencoder").with_settings(["task.bottleneck=dense", "task.latent_size=16"])
    assert count_kept(dataclasses.replace(fixed, space={}, conditions=(), points=())) == 1 + KEEP_LEADING + 1
