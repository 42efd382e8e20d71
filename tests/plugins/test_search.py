"""A sampler, a pruner and a source of images from outside: by a file's path, and by an installed package's name."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from raysweep.data.records import SPLITS
from raysweep.data.sources import SOURCES, load_source, resolve_source
from raysweep.errors import DataError, UsageError
from raysweep.search.overrides import Overrides
from raysweep.search.strategy.pruners import PRUNERS
from raysweep.search.strategy.samplers import SAMPLERS
from raysweep.search.strategy.strategy import create_strategy
from raysweep.study import Study
from raysweep.trial_result import Params, TrialResult

ELSEWHERE = Path(__file__).with_name("elsewhere.py")
ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = """
[raysweep.samplers]
lowest = elsewhere:Lowest
[raysweep.pruners]
stop-at-one = elsewhere:stop_at_one
[raysweep.sources]
shades = elsewhere:load_shades
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has a distribution `elsewhere` installed, as pip leaves one."""
    site = tmp_path / "site"
    metadata = site / "elsewhere-1.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(ELSEWHERE, site)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (metadata / "RECORD").write_text(
        "".join(f"{path},,\n" for path in ("elsewhere.py", f"{metadata.name}/METADATA", f"{metadata.name}/RECORD"))
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


def run_strategy(study: Study, sampler: str, pruner: str) -> list[tuple[Params, int]]:
    """All trials of a search on simulated values: their points, and how many epochs each came to."""
    strategy = create_strategy(study, optuna.storages.InMemoryStorage(), "s", sampler=sampler, pruner=pruner)
    done = []
    while (proposal := strategy.propose()) is not None:
        number, params = proposal
        epochs, stop = 0, False
        while not stop and epochs < params["training.epochs"]:
            epochs += 1
            stop = strategy.report(number, epochs, 0.5)
        strategy.tell(
            TrialResult(
                number=number,
                state="PRUNED" if stop else "COMPLETE",
                value=0.5,
                best_epoch=1,
                params=params,
                duration_s=1.0,
            )
        )
        done.append((params, epochs))
    return done


def test_a_sampler_and_a_pruner_in_a_file(study: Study) -> None:
    baseline, *others = run_strategy(study, f"{ELSEWHERE}:Lowest", f"{ELSEWHERE}:stop_at_one")
    assert baseline == (study.baseline, 3), "the baseline runs to its end, whatever a pruner says"
    lowest = {"task.learning_rate": 1e-4, "task.optimizer": "adam", "training.epochs": 3}
    assert others == [(lowest, 1)] * 11


def test_a_source_in_a_file_with_an_argument_and_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ELSEWHERE.parent)
    spec = resolve_source("elsewhere.py:load_shades:3")
    assert spec == f"{ELSEWHERE}:load_shades:3"
    source = load_source(spec, split_seed=0, storage=tmp_path)
    assert source.classes == ("shade 0", "shade 1", "shade 2")
    assert [len(source.records[split]) for split in SPLITS] == [18] * 3


def test_an_installed_package_needs_no_more_than_its_names(installed: dict[str, str], tmp_path: Path) -> None:
    """In a process of its own: a running one has looked at what is installed already."""
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "from raysweep.catalogue import load_study\n"
        "from raysweep.data.sources import SOURCES, load_source, resolve_source\n"
        "from raysweep.search.overrides import Overrides\n"
        "from raysweep.search.strategy.pruners import PRUNERS, build_pruner\n"
        "from raysweep.search.strategy.samplers import SAMPLERS, build_sampler\n"
        "names = [sorted(set(kind.references()) - set(kind.built_in)) for kind in (SAMPLERS, PRUNERS, SOURCES)]\n"
        "assert 'elsewhere' not in sys.modules\n"
        "overrides = Overrides(sampler='lowest', pruner='stop-at-one', data=resolve_source('shades:4'))\n"
        "study = overrides.apply(load_study('fashion_cnn'))\n"
        "built = build_sampler(overrides.sampler, study), build_pruner(overrides.pruner, study)\n"
        "source = load_source(study.data.source, split_seed=0, storage=Path(sys.argv[1]))\n"
        "print(json.dumps([names, [type(one).__name__ for one in built], source.name]))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=installed,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        [["lowest"], ["stop-at-one"], ["shades"]],
        ["Lowest", "StopAt"],
        "4 shades",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'; did you mean 'tpe'? Known: cmaes, default, gp, nsga2"),
        ({"pruner": "ashes"}, "unknown pruner 'ashes'; did you mean 'asha'? Known: asha, default, hyperband, median"),
        ({"sampler": "/no/such/file.py:Lowest"}, "no file /no/such/file.py"),
        ({"sampler": f"{ELSEWHERE}:Lowst"}, "has no 'Lowst'; it has: "),
        ({"pruner": "no_such_package:Pruner"}, "No module named 'no_such_package'"),
        ({"sampler": "optuna.samplers:TPESampler"}, "must be callable with (Study, int)"),
        ({"pruner": f"{ELSEWHERE}:NO_BUILDER"}, "must be callable with (Study)"),
        ({"sampler": f"{ELSEWHERE}:build_nothing"}, "must return a BaseSampler, got a NoneType"),
        ({"pruner": f"{ELSEWHERE}:build_nothing"}, "must return a BasePruner, got a NoneType"),
        ({"data": f"{ELSEWHERE}:load_shade"}, "has no 'load_shade'; it has: "),
    ],
)
def test_what_is_unknown_or_no_plug_in_is_refused(study: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Overrides(**changes).apply(study)
    assert message in str(caught.value)


def test_unknown_names_are_refused_before_ray_is_imported() -> None:
    code = "import sys; from raysweep.cli import main\ntry: main()\nfinally: print('ray' in sys.modules)"
    for flag in ("--strategy", "--pruner"):
        done = subprocess.run(
            [sys.executable, "-c", code, "tune", "fashion_cnn", flag, "no-such"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "Known: " in done.stderr
        assert done.stdout == "False\n"


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="no source of that name; known: fashion-mnist, gs, hf, kaggle, mnist, s3, sample"
    ) as caught:
        load_source("sampel", split_seed=0, storage=tmp_path)
    assert "no folder sampel" in str(caught.value)
    with pytest.raises(DataError, match="sample takes no argument, got '3'"):
        load_source("sample:3", split_seed=0, storage=tmp_path)
    with pytest.raises(UsageError, match="must return a Source, got a NoneType"):
        load_source(f"{ELSEWHERE}:build_nothing", split_seed=0, storage=tmp_path)


def test_a_source_that_would_fail_on_workers_is_refused_here(tmp_path: Path) -> None:
    def offer(name: str, **changes: Any) -> str:
        """A file with a source whose test records are changed."""
        path = tmp_path / f"{name}.py"
        path.write_text(
            f"import dataclasses, importlib.util\n"
            f"import numpy as np\n"
            f"from raysweep.registry import load_object\n"
            f"def load(*arguments, **named):\n"
            f"    source = load_object({f'{ELSEWHERE}:load_shades'!r})('2', **named)\n"
            f"    test = source.records['test']\n"
            f"    test = dataclasses.replace(test, **{{{changes['test']}}})\n"
            f"    return dataclasses.replace(source, records={{**source.records, 'test': test}})\n"
        )
        return f"{path}:load"

    for name, test, message in (
        ("short", "'labels': test.labels[1:]", "a member and a label for each path, got \\(12, 12, 11\\)"),
        ("high", "'labels': test.labels + 1", "must be in 0..1, .*got 1..2 in test"),
        ("relative", "'paths': ['x.png'] * 12", "must be absolute, got 'x.png' in test"),
        ("empty", "'paths': []", "got none of test"),
    ):
        with pytest.raises(DataError, match=message):
            load_source(offer(name, test=test), split_seed=0, storage=tmp_path)


def test_built_in_names_cannot_be_taken_and_two_objectives_keep_their_rules(study: Study) -> None:
    assert {"default", "tpe"} <= set(SAMPLERS.references())
    assert {"default", "none"} <= set(PRUNERS.references())
    assert set(SOURCES.built_in) == {"sample", "mnist", "fashion-mnist", "kaggle", "hf", "s3", "gs"}
    both = Overrides(second_objective="model/num_parameters")
    for refused, message in (
        (dataclasses.replace(both, sampler="cmaes"), "one objective only"),
        (dataclasses.replace(both, pruner="asha"), "no intermediate values"),
        (dataclasses.replace(both, pruner=f"{ELSEWHERE}:stop_at_one"), "no intermediate values"),
    ):
        with pytest.raises(UsageError, match=message):
            refused.apply(study)
    assert dataclasses.replace(both, sampler=f"{ELSEWHERE}:Lowest").apply(study).second_objective is not None


@pytest.mark.parametrize(
    ("spec", "resolved"),
    [
        ("sample", "sample"),
        ("mnist", "mnist"),
        ("kaggle:owner/cars", "kaggle:owner/cars"),
        ("cars", "{here}/cars"),
        ("cars:red", "{here}/cars:red"),
        ("own.py:Load", "{here}/own.py:Load"),
        ("own.py:Load:a:b", "{here}/own.py:Load:a:b"),
        ("/data/own.py:Load", "/data/own.py:Load"),
    ],
)
def test_paths_on_the_command_line_become_absolute_and_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, resolved: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_source(spec) == resolved.format(here=tmp_path)


def test_a_folder_here_comes_before_a_source_of_its_name_but_for_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "sample"):
        Path(name).mkdir()
    assert [resolve_source("mnist"), resolve_source("sample")] == [str(tmp_path / "mnist"), "sample"]


@pytest.mark.ray
def test_a_search_with_all_three_is_resumed_from_another_folder(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(ELSEWHERE.read_text())
    (tmp_path / "elsewhere_else").mkdir()
    study = tmp_path / "shades.py"
    study.write_text(
        "from optuna.distributions import FloatDistribution\n"
        "from raysweep.config import DataConfig, Objective, TrainingConfig\n"
        "from raysweep.study import Study\n"
        "from raysweep.tasks.classification.config import ClassificationConfig\n"
        "STUDY = Study(name='shades', task=ClassificationConfig(model='fashion_cnn', dropout=0.2),\n"
        "    data=DataConfig(source='shades:3', image_size=32), training=TrainingConfig(epochs=2, batch_size=8),\n"
        "    space={'task.learning_rate': FloatDistribution(1e-4, 1e-2, log=True)},\n"
        "    objective=Objective(metric='val/accuracy'))\n"
    )

    def tune(folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-c", "from raysweep.cli import main; main()", "tune", str(study), *arguments]
        done = subprocess.run(
            [*command, "--storage", str(tmp_path / "runs"), "--wandb", "disabled", "--address", "local"],
            env=installed,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    tune(tmp_path, "--trials", "2", "--strategy", "own.py:Lowest", "--pruner", "stop-at-one")
    again = f"{tmp_path}/own.py:Lowest"  # code that a run names is not run unless it is named again
    tune(tmp_path / "elsewhere_else", "--trials", "3", "--resume", "--sampler", again)
    results = json.loads((tmp_path / "runs" / "shades" / "results.json").read_text())
    assert [trial["state"] for trial in results["trials"]] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [trial["params"]["task.learning_rate"] for trial in results["trials"][1:]] == [1e-4, 1e-4]
    histories = sorted((tmp_path / "runs" / "shades" / "trials").glob("*/metrics.jsonl"))
    assert [len(path.read_text().splitlines()) for path in histories] == [2, 1, 1], "a weak trial ends with its epoch"
    assert results["data"]["source"] == "3 shades"
    assert results["data"]["num_train"] == 18
