"""Studies: a space is checked when it loads, settings leave it, the baseline is a point of it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.catalogue import list_studies, load_study
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.distributions import When
from raysweep.errors import UsageError
from raysweep.study import Study
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.trial_config import TrialConfig


def make_study(**changes: Any) -> Study:
    values = {
        "name": "small",
        "task": ClassificationConfig(model="fashion_cnn", dropout=0.5, optimizer="sgd", momentum=0.9),
        "data": DataConfig(source="sample", image_size=28, channels=1, normalization="unit"),
        "training": TrainingConfig(epochs=3, batch_size=32),
        "space": {
            "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
            "task.optimizer": CategoricalDistribution(("adam", "sgd")),
            "training.epochs": IntDistribution(2, 10),
        },
        "conditions": (When("task.optimizer", "sgd", {"task.momentum": FloatDistribution(0.5, 0.95)}),),
        "objective": Objective(metric="val/accuracy"),
    }
    return Study(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"task.lerning_rate": FloatDistribution(1e-4, 1e-2)}}, "did you mean 'task.learning_rate'"),
        ({"space": {"task.dropout": FloatDistribution(0.0, 1.5)}}, r"task.dropout must be in 0..0.95, got 1.5"),
        ({"space": {"task.model": CategoricalDistribution(("",))}}, "task.model must be"),
        ({"space": {"training.epochs": IntDistribution(5, 10)}, "conditions": ()}, "training.epochs=3 is not in"),
        ({"objective": Objective(metric="val/mse")}, "unknown objective 'val/mse'"),
        ({"conditions": (When("task.dropout", "x", {}),)}, "a condition needs a categorical key"),
    ],
)
def test_a_wrong_space_is_refused_when_the_study_is_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, UsageError), match=message):
        make_study(**changes)


def test_the_baseline_is_the_studys_own_configuration_with_its_conditional_keys() -> None:
    assert make_study().baseline == {
        "task.learning_rate": 1e-3,
        "task.optimizer": "sgd",
        "training.epochs": 3,
        "task.momentum": 0.9,
    }


def test_a_setting_changes_the_field_and_leaves_the_space() -> None:
    study = make_study().with_settings(
        ["task.learning_rate=0.005", "task.gradient_clip_norm=none", "task.pretrained=true"]
    )
    assert isinstance(study.task, ClassificationConfig)
    assert study.task.learning_rate == 0.005
    assert study.task.gradient_clip_norm is None
    assert study.task.pretrained is True
    assert set(study.space) == {"task.optimizer", "training.epochs"}


def test_a_setting_of_a_number_that_is_one_of_some() -> None:
    study = make_study().with_settings(["data.channels=3"])
    assert study.data.channels == 3


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("true", True), ("False", False)])
def test_a_setting_that_is_a_word_or_yes_or_no(text: str, value: object) -> None:
    assert make_study().with_settings([f"training.cuda_graphs={text}"]).training.cuda_graphs == value


def test_setting_a_choice_opens_or_closes_what_hangs_on_it() -> None:
    opened = make_study().with_settings(["task.optimizer=sgd"])
    assert "task.momentum" in opened.space
    closed = make_study().with_settings(["task.optimizer=adam"])
    assert "task.momentum" not in dict(closed.all_distributions())


def test_a_point_loses_what_hangs_on_a_choice_that_is_set_otherwise() -> None:
    study = make_study(points=({"task.optimizer": "sgd", "task.momentum": 0.6, "task.learning_rate": 2e-3},))
    assert study.with_settings(["task.optimizer=adam"]).points == ({"task.learning_rate": 2e-3},)
    assert study.with_settings(["task.optimizer=sgd"]).points == ({"task.momentum": 0.6, "task.learning_rate": 2e-3},)


def test_the_objective_has_to_be_reported_at_every_point_of_the_space() -> None:
    changes = {
        "task": AutoencoderConfig(variant="variational"),
        "space": {"task.variant": CategoricalDistribution(("variational", "plain"))},
        "conditions": (),
    }
    assert make_study(**changes, objective=Objective(metric="val/mse", direction="minimize"))
    with pytest.raises(ValueError, match="value 'plain': unknown objective 'val/kl'"):
        make_study(**changes, objective=Objective(metric="val/kl", direction="minimize"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.learning_rate", "--set takes KEY=VALUE"),
        ("task.lr=1", "unknown field 'task.lr'"),
        ("training.epochs=many", "training.epochs=many"),
        ("training.epochs=0", "training.epochs must be at least 1, got 0"),
        ("task.optimizer=lion", "task.optimizer=lion"),
        ("data.image_size=4", "8..2048"),
    ],
)
def test_a_wrong_setting_is_a_usage_error_with_the_rule(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_study().with_settings([setting])
    assert caught.value.exit_code == 2


def test_max_epochs_clips_the_range_and_the_baseline() -> None:
    study = make_study().with_max_epochs(2)
    assert study.training.epochs == 2
    assert study.space["training.epochs"] == IntDistribution(2, 2)
    assert make_study().with_max_epochs(1).space["training.epochs"] == IntDistribution(1, 1)
    with pytest.raises(UsageError, match="at least 1"):
        make_study().with_max_epochs(0)


def test_points_start_after_the_baseline_with_some_of_its_values_changed() -> None:
    study = make_study(points=({"task.learning_rate": 0.004, "training.epochs": 9}, {}))
    baseline, point = study.starting_points  # the empty change is the baseline again
    assert baseline == study.baseline
    assert point == {**baseline, "task.learning_rate": 0.004, "training.epochs": 9}
    assert study.with_max_epochs(2).starting_points[1]["training.epochs"] == 2
    fixed = study.with_settings(["task.learning_rate=0.002"])
    assert fixed.starting_points[1] == {k: v for k, v in point.items() if k != "task.learning_rate"}


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"task.learning_rate": 9.0}, "must be a point of the space: task.learning_rate=9.0 is not in"),
        ({"task.optimizer": "adam", "task.momentum": 0.9}, "has no task.momentum there"),
    ],
)
def test_a_point_outside_the_space_is_refused(point: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_study(points=(point,))


def test_a_trials_configuration_has_the_point_applied_and_survives_json() -> None:
    study = make_study()
    config = study.trial_config({"task.learning_rate": 0.004, "training.epochs": 7}, 3)
    assert isinstance(config.task, ClassificationConfig)
    assert (config.task.learning_rate, config.training.epochs) == (0.004, 7)
    assert TrialConfig.from_json(config.to_json()) == config
    assert config.seed != study.trial_config({}, 4).seed
    assert config.seed == study.trial_config({}, 3).seed


def test_the_json_of_a_config_is_checked_on_the_way_back() -> None:
    values = make_study().trial_config({}, 0).to_json()
    values["task"]["dropout"] = 3
    with pytest.raises((UsageError, ValueError), match="dropout"):
        TrialConfig.from_json(values)


@pytest.mark.parametrize("name", ["car_resnet", "fashion_cnn", "fashion_autoencoder"])
def test_the_reports_studies_load_and_open_with_their_command(name: str) -> None:
    path = list_studies()[name]
    study = load_study(name)
    assert study.name == name
    assert f"python -m platform.tune {name}" in path.read_text().split('"""')[1]


def test_the_report_baselines_are_the_reports() -> None:
    cars, fashion = load_study("car_resnet"), load_study("fashion_cnn")
    assert isinstance(cars.task, ClassificationConfig)
    assert isinstance(fashion.task, ClassificationConfig)
    assert (cars.task.model, cars.task.pretrained, cars.task.head) == ("skresnet34", True, "report")
    assert (cars.baseline["task.learning_rate"], cars.training.epochs, cars.training.batch_size) == (1e-3, 3, 32)
    assert cars.data.augmentation.strength == 0
    assert (fashion.task.dropout, fashion.task.weight_decay, fashion.training.early_stopping_patience) == (0.5, 1e-5, 5)
    assert (fashion.task.batch_norm, fashion.training.batch_size) == (False, 128)
    coder = load_study("fashion_autoencoder")
    assert isinstance(coder.task, AutoencoderConfig)
    assert (coder.task.variant, coder.task.bottleneck, coder.task.width, coder.task.loss) == (
        "plain",
        "spatial",
        1.0,
        "bce",
    )
    assert (coder.task.learning_rate, coder.training.epochs, coder.training.batch_size) == (1e-3, 20, 128)
    assert (coder.objective.metric, coder.objective.direction) == ("val/mse", "minimize")


def test_the_autoencoder_opens_the_choices_that_a_kind_uses() -> None:
    study = load_study("fashion_autoencoder")
    opened = {
        "task.bottleneck=dense": {"task.latent_size"},
        "task.variant=denoising": {"task.noise_std"},
        "task.variant=variational": {"task.beta", "task.kl_warmup_epochs"},
    }
    for setting, keys in opened.items():
        assert study.with_settings([setting]).space.keys() - study.space.keys() == keys


def test_an_unknown_study_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown study 'car_resnt'; did you mean 'car_resnet'.*fashion_cnn"):
        load_study("car_resnt")
    with pytest.raises(UsageError, match="no study file"):
        load_study(str(tmp_path / "none.py"))
    broken = tmp_path / "broken.py"
    broken.write_text("STUDY = 1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_study(str(broken))
    broken.write_text("STUDY = 3")
    with pytest.raises(UsageError, match="must define STUDY"):
        load_study(str(broken))


def test_budget_and_frozenness() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Budget(trials=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_study().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "line", ["from raysweep.models.noise import NoiseSchedule", "from raysweep.tasks.gan import Gan"]
)
def test_a_study_of_an_earlier_version_is_told_where_names_are_now(line: str, tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_text(f"{line}\n")
    with pytest.raises(UsageError, match=r"old\.py, line 1: .*Error: .*; import the names of studies from raysweep"):
        load_study(str(path))


def test_a_setting_of_a_mapping_takes_what_lies_below_it_out_of_the_space() -> None:
    """fashion_cnn with another network: no argument of its own is left, in the space, the baseline or the points."""
    settings = ["task.model=resnet18", "task.batch_norm=false", "task.model_args={}"]
    study = load_study("fashion_cnn").with_settings(settings)
    assert study.task.model_args == {}  # type: ignore[attr-defined]
    keys = {*study.space, *study.baseline, *(key for point in study.starting_points for key in point)}
    assert not [key for key in keys if key.startswith("task.model_args")]
    assert "task.learning_rate" in study.space
