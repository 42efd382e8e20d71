"""Small prepared sets of grey 28x28 images with a judge beside them, and GAN configurations. No Ray."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep import own_code
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.test_figures import TestFigures
from raysweep.registry import load_object
from raysweep.report.section import Section
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.judge.network import save_judge
from raysweep.tasks.gan.judge.store import FILE
from raysweep.tasks.gan.judge.training import train_judge
from raysweep.tasks.gan.noise import NoiseSchedule
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import TrialResult

SIDE, NUM_CLASSES = 28, 4


@pytest.fixture
def no_lasting_trust() -> Iterator[None]:
    """Forgets the code of one's own that a test trusts."""
    before = set(own_code._trusted)
    yield
    own_code._trusted.clear()
    own_code._trusted.update(before)


@pytest.fixture(scope="session")
def squares(
    tmp_path_factory: pytest.TempPathFactory,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
) -> PreparedData:
    """40 training and 24 validation images in four classes, and the judge that was trained for them."""
    folder = tmp_path_factory.mktemp("squares")
    splits = {"train": draw_squares(40, 1), "val": draw_squares(24, 2)}
    data = save_prepared(folder, splits, [f"square-{index}" for index in range(NUM_CLASSES)])
    rows = np.arange(40)
    judge = train_judge(data.train.gather(rows), data.train.labels, NUM_CLASSES, epochs=60)
    save_judge(folder / FILE, judge, {"source": "squares"})
    return data


@pytest.fixture(scope="session")
def make_gan_config() -> Callable[..., TrialConfig]:
    """Builds a configuration from the fields of the task (`noise` as a dict), of training and the seed."""

    def make(seed: int = 0, noise: dict[str, Any] | None = None, **values: Any) -> TrialConfig:
        task = {name: values.pop(name) for name in GanConfig.__dataclass_fields__ if name in values}
        return TrialConfig(
            task=GanConfig(**{"network": "dense", "latent_size": 8, **task}, noise=NoiseSchedule(**noise or {})),
            data=DataConfig(image_size=SIDE, channels=1, normalization="symmetric"),
            training=TrainingConfig(
                **{"epochs": 4, "batch_size": 8, "precision": "fp32", "checkpoint_period_s": 0.0, **values}
            ),
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def make_results(build_results: Callable[..., Results]) -> Callable[..., Results]:
    """`(run, figures)` -> results whose best trial was evaluated so."""

    def make(run: FinalRun, figures: dict[str, Any]) -> Results:
        trial = TrialResult(
            number=run.best.number, state="COMPLETE", value=1.0, best_epoch=1, params={}, duration_s=1.0
        )
        test, objective = TestFigures.from_json(figures), Objective(metric="val/loss")
        return build_results([trial], objective=objective, baseline=None, test=test, data=run.best.info)

    return make


@pytest.fixture
def build_task_sections(make_results: Callable[..., Results], tmp_path: Path) -> Callable[..., list[Section]]:
    """`(run, figures)` -> the report's sections on an evaluation, by their titles."""

    def build(run: FinalRun, figures: dict[str, Any]) -> list[Section]:
        folder = RunFolder(tmp_path / "reported")
        shutil.copytree(run.folder, folder.test)
        reference = run.best.config.task.report_sections
        assert reference is not None
        sections: list[Section] = load_object(reference)(folder, make_results(run, figures))
        return sections

    return build
