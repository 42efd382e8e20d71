"""What a run leaves in its folder beside its trials: study.json, results.json and best/."""

import dataclasses
import json
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from raysweep import __version__
from raysweep import atomic_files as files
from raysweep import config_fields as fields
from raysweep.cluster.capacity import Node
from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.run_folder import FINALISTS, trial_folder
from raysweep.search.finalists.statistics import Finalist, best_run, find_winner
from raysweep.search.pareto import describe_trial, record_front
from raysweep.search.ranking import rank_results
from raysweep.search.session.identity import Identity
from raysweep.study import Study
from raysweep.train import checkpoint
from raysweep.trial_result import BASELINE, TrialResult


def keep_best(run: Path, study: Study, results: list[TrialResult]) -> TrialResult:
    """Copies the best trial's model to `best/`."""
    best = rank_results(results, study.objectives)[0]
    _copy_model(trial_folder(run, best.number), run / "best")
    return best


def keep_winner(run: Path, objective: Objective, finalists: Sequence[Finalist]) -> TrialResult | None:
    """Copies the best seed's model of the winner to `best/`, and of the baseline to where the final evaluation looks.

    Returns how that seed ended, under the number that the configuration has in the search; none without a winner.
    """
    winner = find_winner(finalists, objective)
    if winner is None:
        return None
    for finalist, target in ((finalists[0], run / FINALISTS / "baseline"), (winner, run / "best")):
        best = best_run(finalist, objective)
        if best is not None:
            folder = trial_folder(run / FINALISTS, best.number)
            _copy_model(folder, target, number=finalist.trial.number, finalist=best.number)
    assert best is not None
    return dataclasses.replace(best, number=winner.trial.number)


def _copy_model(folder: Path, target: Path, **numbers: int) -> None:
    """Copies a trial's best weights, and its configuration with other `numbers`."""
    weights = folder / "best" / checkpoint.WEIGHTS
    files.write_atomically(target / checkpoint.WEIGHTS, lambda path: _copy(weights, path))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files.write_json(target / "config.json", {**config, **numbers})


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def write_study(run: Path, study: Study, data: PreparedData, identity: Identity) -> None:
    """Writes study.json: the study as resolved, what identifies the run, versions, and the digest of the images."""
    versions = {"raysweep": __version__, "python": platform.python_version(), "torch": torch.__version__}
    versions |= {name: version(name) for name in ("ray", "optuna")}
    files.write_json(
        run / "study.json",
        {
            **study.to_json(),
            **identity.to_json(),
            "max_epochs": identity.overrides.max_epochs,
            "versions": versions,
            "data_digest": data.info.digest,
        },
    )


def build_record(
    study: Study,
    data: PreparedData,
    results: list[TrialResult],
    best: TrialResult,
    test: dict[str, Any],
    *,
    nodes: list[Node],
    max_epochs: int | None,
    duration_s: float,
    finalists: dict[str, Any] | None,
) -> dict[str, Any]:
    """What results.json holds; `duration_s` is of the session that ends the run."""
    baseline = next((result for result in results if result.number == BASELINE), None)
    return {
        "study": study.name,
        "objective": fields.to_json(study.objective),
        **record_front(study, results),
        "max_epochs": max_epochs,
        "trials": [describe_trial(study, result) for result in results],
        "best": describe_trial(study, best),
        "baseline": describe_trial(study, baseline) if baseline else None,
        "finalists": finalists,
        "test": test,
        "data": fields.to_json(data.info),
        "machine": {
            "processor": platform.machine(),
            "num_nodes": len(nodes),
            "num_cpus": sum(node.num_cpus for node in nodes),
            "num_gpus": sum(node.num_gpus for node in nodes),
        },
        "duration_s": round(duration_s, 3),
    }
