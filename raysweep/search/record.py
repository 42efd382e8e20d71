"""What a run leaves in its folder beside its trials: study.json, results.json and best/."""

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from raysweep import __version__, fields, files
from raysweep.data.images import PreparedData
from raysweep.evaluate.final import trial_folder
from raysweep.search.capacity import Node
from raysweep.search.pareto import describe_trial, record_front
from raysweep.search.ranking import rank_results
from raysweep.search.resume import Identity
from raysweep.search.strategy import BASELINE, TrialResult
from raysweep.study import Study
from raysweep.train import checkpoint


def keep_best(run: Path, study: Study, results: list[TrialResult]) -> TrialResult:
    """Copies the best trial's model to `best/`."""
    best = rank_results(results, study.objectives)[0]
    folder = trial_folder(run, best.number)
    weights = folder / "best" / checkpoint.WEIGHTS
    files.write_atomically(run / "best" / checkpoint.WEIGHTS, lambda path: _copy(weights, path))
    files.write_atomically(run / "best" / "config.json", lambda path: _copy(folder / "config.json", path))
    return best


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
