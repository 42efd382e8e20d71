"""Writes the model card of a run: what the model is for, what the test said, and what is not known."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from raysweep import __version__
from raysweep.config import format_value
from raysweep.evaluate.stored_model import StoredModel, describe_model
from raysweep.search.results import Results

PIPELINES = {"classification": "image-classification", "gan": "unconditional-image-generation"}
"""What the hub calls a task."""
CONFIDENCE = 0.95


def write_card(results: Results, model: StoredModel, *, license_name: str | None) -> str:
    """Returns the card as Markdown under the hub's YAML header.

    license_name: the model's, as the hub spells it; none: the card says that none is given.
    """
    kind = model.config.task.kind
    metadata = ModelCardData(
        library_name="raysweep",
        pipeline_tag=PIPELINES.get(kind),
        license=license_name,
        tags=["raysweep", kind, *(["synthetic-data"] if model.info.synthetic else [])],
        model_name=results.study,
        eval_results=_list_results(results, model) or None,
    )
    sections = [
        f"# {results.study}",
        _describe_model(results, model),
        "## Intended use",
        _describe_use(model),
        "## Test",
        _describe_test(results, model.info.source),
        "## Limits",
        _list_limits(results, model, license_name),
        "## Data",
        _describe_data(model),
        "## Use it",
        _describe_calls(model),
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


CODE = """```python
import torch
from pathlib import Path
from raysweep.evaluate.stored_model import load_best
from raysweep.run_folder import RunFolder

model = load_best(RunFolder(Path("this/folder")), torch.device("cpu"))
model.modules
```"""
"""How a model is used that labels nothing."""


def _describe_calls(model: StoredModel) -> str:
    task = model.config.task
    if task.kind != "classification":
        return CODE
    trust = " --trust-code" if task.code_references else ""
    command = f"raysweep predict this/folder IMAGE...{trust}"
    return f"```sh\npip install raysweep-*.whl  # the wheel that its repository builds\n{command}\n```"


def name_data(source: str) -> str:
    """Names a data set for others: of a folder, a bucket or a file its own name, as its place is nobody's business."""
    if source.startswith(("kaggle:", "hf:")):
        return source
    return PurePath(source.rpartition(".py:")[2]).name or "images"


def compute_interval(share: float, num_images: int) -> tuple[float, float]:
    """Computes the 95 % interval (Wilson 1927) of a share of so many images."""
    interval = binomtest(round(share * num_images), num_images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def _list_results(results: Results, model: StoredModel) -> list[EvalResult]:
    """Lists the test figures as the hub's `model-index` has them; a generator's figures have no name there."""
    own = results.test.own
    if "accuracy" not in own:
        return []
    low, high = compute_interval(own["accuracy"], results.test.num_images)
    named = [
        ("accuracy", "accuracy", f"Accuracy (95 % interval {low:.4f} to {high:.4f})"),
        ("f1", "macro_f1", "Macro F1"),
    ]
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type="image-folder",
            dataset_name=name_data(model.info.source),
            dataset_split="test",
            metric_type=kind,
            metric_value=round(own[name], 4),
            metric_name=title,
        )
        for kind, name, title in named
        if name in own
    ]


def _describe_model(results: Results, model: StoredModel) -> str:
    task, data = model.config.task, model.config.data
    network = getattr(task, "model", None) or getattr(task, "network", None) or task.kind
    num_parameters = sum(parameter.numel() for parameter in model.modules[model.task.main_module].parameters())
    colours = "colour" if data.channels == 3 else "grey"
    return (
        f"The best of {len(results.trials)} trials of a hyperparameter search with raysweep {__version__}: "
        f"{describe_model(model)}, {results.objective.metric} {format_value(results.best.value or 0.0)}. "
        f"{task.kind}, {network}, {num_parameters:,} parameters, {data.image_size}x{data.image_size} {colours} images."
    )


def _describe_use(model: StoredModel) -> str:
    if model.config.task.kind != "classification":
        return "To generate or reconstruct images like those it was trained on."
    names = ", ".join(model.info.classes)
    return f"To tell apart photographs like those of its data set, of {len(model.info.classes)} classes: {names}."


def _describe_test(results: Results, source: str) -> str:
    """States the test figures, with an interval where they are shares of images, and the lift over the baseline."""
    test = results.test
    lines = [f"On {test.num_images} test images, which the search had not seen (opened {test.openings} time(s)):", ""]
    if "accuracy" in test.own:
        low, high = compute_interval(test.own["accuracy"], test.num_images)
        lines += [
            "| figure | value | 95 % interval |",
            "| --- | --- | --- |",
            f"| accuracy | {test.own['accuracy']:.4f} | {low:.4f} to {high:.4f} |",
            *(
                f"| {name} | {test.own[name]:.4f} | |"
                for name in ("mean_class_accuracy", "macro_f1")
                if name in test.own
            ),
        ]
    else:
        lines.append(test.headline.replace(source, name_data(source)))
    lift = test.lift["text"] if test.baseline_failure is None else "not known, as the baseline failed"
    lines += ["", f"Lift over the baseline configuration: {lift}."]
    if test.seeds is not None:
        lines += ["", f"Over all seeds that it was trained again with, this model's among them: {test.seeds['text']}."]
    return "\n".join(lines)


def _list_limits(results: Results, model: StoredModel, license_name: str | None) -> str:
    test = results.test
    limits = []
    if model.info.synthetic:
        limits.append("Trained and tested on drawn images: the figures say nothing about photographs.")
    limits.append("The figures hold for images drawn as its test images were; on others they were not measured.")
    if "accuracy" in test.own:
        limits.append("The interval covers the choice of test images, not the randomness of training.")
    rejection: Mapping[str, Any] | None = test.own.get("rejection")
    if rejection is not None:
        seen = ", ".join(f"{name} {values['auroc']:.3f}" for name, values in rejection.get("sets", {}).items())
        share = rejection["accepted"]["share"]
        limits.append(
            f"It rejects what is none of its classes, imperfectly: {share:.1%} of test images are accepted; AUROC "
            f"against {seen}. Other kinds of images were not tried."
        )
    limits += [] if test.openings == 1 else [f"The test split has been opened {test.openings} times."]
    limits += [] if license_name else ["No licence is given: ask its author before you use it."]
    limits.append("Whether it treats groups of people alike was not examined.")
    return "\n".join(f"- {limit}" for limit in limits)


def _describe_data(model: StoredModel) -> str:
    info = model.info
    return (
        f"{name_data(info.source)}: {info.num_train} training, {info.num_val} validation and {info.num_test} test "
        f"images.\n\nSHA-256 of names, labels and contents of all images: `{info.digest}`"
    )
