"""The two GAN studies: their baselines are the reports', their spaces open only what a choice uses."""

from collections.abc import Sequence
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from raysweep.catalogue import list_studies, load_study
from raysweep.search.strategy.strategy import suggest
from raysweep.tasks.gan.config import GanConfig
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import Params

STUDIES = ("mnist_dcgan", "mnist_gan")


@pytest.mark.parametrize("name", STUDIES)
def test_they_load_and_open_with_their_command(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert f"python -m platform.tune {name}" in list_studies()[name].read_text().split('"""')[1]
    assert (study.objective.metric, study.objective.direction) == ("val/frechet_distance", "minimize")
    assert TrialConfig.from_json(study.trial_config({}, 0).to_json()) == study.trial_config({}, 0)


def test_the_dcgan_baseline_is_the_reports() -> None:
    study = load_study("mnist_dcgan")
    task = study.task
    assert isinstance(task, GanConfig)
    noise = task.noise
    assert (task.network, task.latent_size, task.batch_norm, task.dropout) == ("dcgan", 100, True, 0.2)
    assert (task.loss, task.real_label, task.beta1) == ("bce", 0.9, 0.5)
    assert (task.generator_learning_rate, task.discriminator_learning_rate) == (2e-4, 1e-4)
    assert (noise.kind, noise.start, noise.end, noise.until, noise.per_step) == ("linear", 0.10, 0.0, 1.0, False)
    assert study.training.batch_size == 128
    assert study.baseline["task.noise.end"] == 0


def test_the_simple_baseline_is_the_reports() -> None:
    study = load_study("mnist_gan")
    task = study.task
    assert isinstance(task, GanConfig)
    assert (task.network, task.latent_size, task.batch_norm, task.dropout) == ("dense", 100, False, 0.0)
    assert (task.loss, task.real_label, task.noise.start, task.beta1) == ("bce", 1.0, 0.0, 0.5)
    assert (task.generator_learning_rate, task.discriminator_learning_rate) == (2e-4, 2e-4)
    assert (study.training.epochs, study.training.batch_size) == (50, 128)


OPENED = {
    "bce": {"task.real_label", "task.spectral_norm"},
    "least_squares": {"task.real_label", "task.spectral_norm"},
    "hinge": {"task.spectral_norm"},
    "wasserstein": {"task.weight_clip", "task.discriminator_steps"},
    "wasserstein_gp": {"task.gradient_penalty", "task.discriminator_steps"},
}


@pytest.mark.parametrize("loss", OPENED)
def test_a_loss_opens_the_choices_that_it_uses(loss: str) -> None:
    study = load_study("mnist_gan")
    assert study.space_at({"task.loss": loss}).keys() - study.space.keys() == OPENED[loss]
    fixed = study.with_settings([f"task.loss={loss}"])
    assert "task.loss" not in fixed.space
    assert fixed.space.keys() >= OPENED[loss]
    assert not {key for other in OPENED.values() for key in other - OPENED[loss]} & fixed.space.keys()


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "exponential"])
def test_the_end_of_the_noise_is_a_choice_where_there_is_one(kind: str) -> None:
    study = load_study("mnist_dcgan")
    assert ("task.noise.end" in study.space_at({"task.noise.kind": kind})) == (kind != "constant")


@pytest.mark.parametrize("name", STUDIES)
def test_every_corner_of_the_space_is_a_valid_configuration(name: str) -> None:
    """All lowest and all highest values together, under each choice that opens others."""
    study = load_study(name)
    for key in {condition.key for condition in study.conditions}:
        opening = study.space[key]
        assert isinstance(opening, CategoricalDistribution)
        for choice in opening.choices:
            for corner in (0, -1):
                point: Params = {}
                for field, distribution in study.space_at({key: choice}).items():
                    ends: Sequence[Any]
                    if isinstance(distribution, CategoricalDistribution):
                        ends = distribution.choices
                    else:
                        assert isinstance(distribution, FloatDistribution | IntDistribution)
                        ends = (distribution.low, distribution.high)
                    point[field] = choice if field == key else ends[corner]
                    trial: Any = FixedTrial(point)
                    assert suggest(trial, field, distribution) == point[field]
                assert study.trial_config(point, 1).task


@pytest.mark.parametrize("name", STUDIES)
def test_the_second_trial_differs_from_the_baseline_in_the_points_values(name: str) -> None:
    study = load_study(name)
    baseline, second = study.starting_points
    changed = {key: value for key, value in second.items() if baseline.get(key) != value}
    assert changed == dict(study.points[0])
    assert study.trial_config(second, 1).task != study.task


@pytest.mark.parametrize("name", STUDIES)
def test_fewer_epochs_clip_the_range_and_the_baseline(name: str) -> None:
    study = load_study(name).with_max_epochs(3)
    assert study.training.epochs == study.baseline["training.epochs"] == 3


def test_the_noise_can_be_set() -> None:
    study = load_study("mnist_dcgan").with_settings(["task.noise.kind=cosine", "task.noise.per_step=true"])
    assert isinstance(study.task, GanConfig)
    assert (study.task.noise.kind, study.task.noise.per_step, study.task.noise.start) == ("cosine", True, 0.10)
    assert "task.noise.end" in study.space
