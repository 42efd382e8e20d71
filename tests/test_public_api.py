"""What `raysweep` offers is listed here: a change of a public name or signature is a change of this file, too."""

import dataclasses
import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import raysweep
from raysweep.cluster.code import package_folders

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = """
AugmentationConfig(strength=, random_crop=, rotation_degrees=, horizontal_flip=, brightness=, contrast=,
    trivial_augment=, random_erasing=, mixup=, cutmix=): mixes
AutoencoderConfig(variant=, bottleneck=, latent_size=, width=, dropout=, batch_norm=, loss=, noise_std=, beta=,
    kl_warmup_epochs=, optimizer=, learning_rate=, weight_decay=, schedule=): advice_on_divergence, check_available,
    code_fields, code_references, comparison_group, evaluation, fetch, graph, input_fields, kind, metrics,
    needs_classes, prepare, report_sections, reported_metrics, takes_mixed_labels, task, test_scores
Batch(images, labels, indices, weight=, mixing=)
Budget(trials=, time_s=, target=)
ClassificationConfig(model=, model_args=, pretrained=, weights=, code=, head=, dropout=, batch_norm=,
    label_smoothing=, class_weighting=, loss=, metric=, augmentation=, optimizer=, learning_rate=, backbone_factor=,
    frozen_stages=, layer_decay=, test_time_flip=, momentum=, weight_decay=, schedule=, warmup_epochs=,
    gradient_clip_norm=, ema_decay=, freeze_batch_norm=): advice_on_divergence, check_available, code_fields,
    code_references, comparison_group, evaluation, fetch, graph, has_own_network, input_fields, kind,
    locate_weights_file, metric_name, metrics, needs_classes, prepare, report_sections, reported_metrics,
    takes_mixed_labels, task, test_scores, weights_name
DataConfig(source=, image_size=, cache_size=, cache=, channels=, normalization=, augmentation=, split_seed=,
    max_bad_fraction=, max_pixels=): decoded_size
DataError(RaysweepError)
FinalRun(best, baseline, baseline_failure=, test, data, run_folder, folder, data_root, seeds=, histories, note,
    clock=): describe_baseline, explain_no_lift, part, rival
GanConfig(network=, latent_size=, conditional=, batch_norm=, spectral_norm=, dropout=, loss=, real_label=,
    weight_clip=, gradient_penalty=, discriminator_steps=, generator_learning_rate=, discriminator_learning_rate=,
    beta1=, noise=, augmentation=, ema_decay=, num_eval_images=, grace_epochs=, failing_epochs=, min_coverage=,
    max_accuracy=): advice_on_divergence, check_available, code_fields, code_references, comparison_group,
    evaluation, fetch, graph, input_fields, kind, metrics, needs_classes, prepare, report_sections,
    reported_metrics, takes_mixed_labels, task, test_scores
Metric(name, direction, meaning, live=)
NoiseSchedule(kind=, start=, end=, until=, per_step=): value
Objective(metric, direction=): is_better, parse
Observer(): epoch_ended, search_ended, time_passed, trial_ended, trial_started
RaysweepError(Exception)
Records(paths, members, labels): name, take
Run(folder, results, sync_command=): baseline, best, lift, load_model, predict, test, trials
SearchFolder(path): journal, list_trials, number_formats, scratch, trial, trials
Source(name, classes, records, synthetic=, notes=, no_classes=): fingerprint
StorageError(RaysweepError)
Study(name, task, data, training, space, conditions=, points=, objective, second_objective=, budget=, seed=):
    all_distributions, baseline, build_point, fields, objectives, space_at, starting_points, to_json, trial_config,
    with_max_epochs, with_settings
StudyFailedError(RaysweepError)
Sums = dict[str, torch.Tensor | list[torch.Tensor]]
Task(): apply_gradients, build_optimizers, build_schedule, build_schedules, can_record, check_modules, compute_loss,
    compute_metrics, count, ema_decay, end_epoch, eval_step, evaluate, find_failure, forward, get_step_value,
    gradient_clip_norm, infer, init_modules, init_state, is_capturable, is_wrapped, load_modules, main_module,
    num_eval_images, num_parts, optimize, sample, step_form, step_values, train_step
TaskConfig(): advice_on_divergence, check_available, code_fields, code_references, comparison_group, fetch, graph,
    input_fields, metrics, needs_classes, prepare, report_sections, reported_metrics, takes_mixed_labels,
    test_scores
TrainState(modules, prepared, optimizers, schedules=, averages=, epoch=, step=, best_value=, best_epoch=,
    epochs_since_best=, cause=, history=): best_modules, end_step, load_state_dict, state_dict
TrainingConfig(epochs=, batch_size=, early_stopping_patience=, precision=, channels_last=, cuda_graphs=,
    eval_batch_size=, checkpoint_period_s=)
TrialError(RaysweepError)
TrialResult(number, state, value, best_epoch, params, duration_s, second_value=, error=, retries=, node_losses=)
UsageError(RaysweepError)
WHOLE_FILE = -1
When(key, values, space): holds
Worker(rank=, num_workers=, device=, num_sharing=)
iterate_evaluation(images, config, batch_size, worker, indices=)
load_object(reference)
load_run(folder)
plan(study, data=, trials=, max_epochs=, time_s=, target=, settings=, seed=, second_objective=, sampler=, pruner=,
    finalists=, seeds=, keep_checkpoints=, storage=, name=, resume=, allow_space_change=, optuna_storage=, address=,
    num_workers=, cpus_per_worker=, gpus_per_worker=, trials_per_gpu=, wandb=, trackers=, observers=, notify=,
    quiet=)
tune(study, data=, trials=, max_epochs=, time_s=, target=, settings=, seed=, second_objective=, sampler=, pruner=,
    finalists=, seeds=, keep_checkpoints=, storage=, name=, resume=, allow_space_change=, optuna_storage=, address=,
    num_workers=, cpus_per_worker=, gpus_per_worker=, trials_per_gpu=, wandb=, trackers=, observers=, notify=,
    quiet=)
"""


def describe(name: str) -> str:
    """A public name with what callers give and what they may read: keyword names, `=` after those with a default."""
    thing = getattr(raysweep, name)
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return f"{name} = {thing!r}"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"{name}({thing.__mro__[1].__name__})"
    if dataclasses.is_dataclass(thing):
        parameters = list(inspect.signature(thing).parameters.values())  # type: ignore[arg-type]
    else:
        parameters = [] if inspect.isclass(thing) else list(inspect.signature(thing).parameters.values())
    fields = {parameter.name for parameter in parameters}
    given = ", ".join(f"{each.name}{'=' * (each.default is not each.empty)}" for each in parameters)
    read = sorted(
        key
        for key, value in inspect.getmembers(thing)
        if not key.startswith("_") and key not in fields and inspect.isclass(thing)
    )
    text = f"{name}({given}){': ' * bool(read)}{', '.join(read)}"
    return textwrap.fill(text, 116, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def test_the_public_names_and_signatures_are_these() -> None:
    now = "\n".join(describe(name) for name in sorted(set(raysweep.__all__) - {"__version__"}))
    assert now == PUBLIC.strip(), f"what is public changed; where that is meant, list it here and in CHANGELOG:\n{now}"


def test_each_name_is_what_its_module_has_and_is_listed() -> None:
    for name, module in raysweep._MODULES.items():
        assert getattr(raysweep, name) is getattr(importlib.import_module(module), name)
    assert set(raysweep.__all__) <= set(dir(raysweep))


def test_a_function_is_not_hidden_by_a_module_of_its_name() -> None:
    names = [path.stem for path in (ROOT / "raysweep").iterdir() if path.suffix == ".py" or path.is_dir()]
    assert not set(names) & set(raysweep.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        raysweep.no_such_name  # type: ignore[attr-defined]  # noqa: B018


TYPED = """
import raysweep
from raysweep import Study, When
run: raysweep.Run = raysweep.tune("fashion_cnn", trials=20, storage="x", num_workers=2, settings=["a=b"])
raysweep.tune("fashion_cnn", trails=20)
raysweep.tune("fashion_cnn", trials="many")
raysweep.no_such_name
"""


def test_type_checkers_know_the_names_and_the_keywords(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(TYPED)
    process = subprocess.run(  # in the checkout, for what `make lint` has cached
        [sys.executable, "-m", "mypy", path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = [line.partition(": error: ")[2] for line in process.stdout.splitlines() if "typed.py:" in line]
    errors = [line for line in found if line]
    assert len(errors) == 3, process.stdout
    assert 'did you mean "trials"' in errors[0]
    assert 'expected "int | None"' in errors[1]
    assert "no attribute" in errors[2]
    assert (ROOT / "raysweep/py.typed").is_file()


def test_the_version_is_known_where_only_the_code_is(tmp_path: Path) -> None:
    """As on a Ray worker, to which packages travel without their metadata."""
    (tmp_path / "raysweep").symlink_to(package_folders()[0])
    code = "import raysweep; print(raysweep.__version__)"
    process = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == raysweep.__version__
