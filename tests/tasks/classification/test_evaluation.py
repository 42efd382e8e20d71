"""The final evaluation of a classifier and what the report shows of it, on a trained network and planted errors."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.images import ImageSet, PreparedData
from raysweep.errors import CorruptFileError
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.seeds import measure_seeds
from raysweep.evaluate.stored_model import load_model
from raysweep.report.section import Section
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks.classification import evaluation
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.example_sections import MAX_MATRIX
from raysweep.tasks.classification.examples import Predictions
from raysweep.tasks.classification.sections import build_sections
from raysweep.train.loop import fit
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import save_config

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("top left", "<i>top</i> right", "NA", "bottom right")
PLANTED = [3, 20, 41]
TITLES = [
    "Scores of each class",
    "Class by class",
    "What is taken for what",
    "Worst errors first",
    "Suspected label errors",
    "Calibration",
    "Refusing what is none of the classes",
    "Where the model looks",
]
Evaluated = tuple[RunFolder, Results]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CLICK = """<script>
addEventListener("load", () => {
  const shown = () => [...document.querySelectorAll("#confused figure")].map((figure) => figure.dataset.row);
  const seen = [["", shown()]];
  for (const button of document.querySelectorAll("table.matrix button")) {
    button.click();
    seen.push([button.dataset.cell, shown()]);
  }
  document.title = JSON.stringify(seen);
});
</script>"""


@pytest.fixture(scope="module")
def final_run(
    tmp_path_factory: pytest.TempPathFactory,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
) -> FinalRun:
    """A trained classifier beside one that has not learnt; three labels of test images are wrong."""
    sizes = {"train": 120, "val": 40, "test": 60}
    splits = {split: draw_squares(num_images, seed) for seed, (split, num_images) in enumerate(sizes.items())}
    splits["test"][1][PLANTED] = (splits["test"][1][PLANTED] + 1) % 4
    data = save_prepared(tmp_path_factory.mktemp("squares"), splits, CLASSES)
    run_folder = RunFolder(tmp_path_factory.mktemp("run"))
    models = {}
    for number, epochs in ((0, 1), (1, 4)):
        folder = run_folder.trial(number)
        config = TrialConfig(
            task=ClassificationConfig(model="fashion_cnn", learning_rate=1e-3 if number else 1e-7),
            data=DataConfig(image_size=28, channels=1, normalization="symmetric"),
            training=TrainingConfig(epochs=epochs, batch_size=8, precision="fp32"),
            seed=number,
        )
        save_config(folder.config, number, config, data.info, {})
        fit(config, data, Objective(metric="val/accuracy"), report=lambda report: None, folder=folder)
        models[number] = load_model(folder.weights, folder.config, torch.device("cpu"))
    run_folder.best.path.mkdir()
    return FinalRun(
        best=models[1],
        baseline=models[0],
        test=ImageSet(data.folder / "test"),
        data=data,
        run_folder=run_folder,
        folder=run_folder.test,
        data_root=None,
        histories={},
        note="",
    )


@pytest.fixture(scope="module")
def evaluated(final_run: FinalRun, make_results: Callable[..., Results]) -> Evaluated:
    return final_run.run_folder, make_results(final_run, evaluation.evaluate(final_run))


@pytest.fixture
def copied(evaluated: Evaluated, tmp_path: Path) -> Evaluated:
    """A run whose `test/` may be changed."""
    shutil.copytree(evaluated[0].test, tmp_path / "test")
    return RunFolder(tmp_path), evaluated[1]


def find(sections: list[Section], title: str) -> str:
    return str(next(section.html for section in sections if section.title == title))


def test_predictions_are_kept_of_each_image(evaluated: Evaluated, final_run: FinalRun) -> None:
    folder, results = evaluated
    table = pd.read_csv(folder.test / "predictions.csv", keep_default_na=False)
    probabilities = np.load(folder.test / "probabilities.npy")
    assert probabilities.shape == (60, 4)
    assert [CLASSES[index] for index in probabilities.argmax(axis=1)] == list(table["predicted"])
    np.testing.assert_allclose(probabilities.max(axis=1), table["confidence"], atol=1e-3)
    of_true = probabilities[np.arange(60), final_run.test.labels]
    np.testing.assert_allclose(of_true, table["true_probability"], atol=1e-3)
    assert table["accepted"].mean() == pytest.approx(results.test.rejection["accepted"]["share"])
    assert results.test.baseline is not None
    assert (table["baseline_predicted"] == table["true"]).mean() == pytest.approx(results.test.baseline["accuracy"])


def test_all_seeds_of_a_configuration_are_measured_or_none(
    final_run: FinalRun, evaluated: Evaluated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = dataclasses.replace(final_run, run_folder=RunFolder(tmp_path), seeds={"best": (1, 3), "baseline": (0, 2)})
    for number in range(4):
        shutil.copytree(final_run.run_folder.trial(number in (1, 2)).path, run.run_folder.finalists.trial(number).path)
    measure = partial(evaluation._measure_accuracy, images=run.test)
    seeds = measure_seeds(run, "accuracy", measure)
    assert seeds is not None
    test = evaluated[1].test
    both = [test.accuracy, (test.baseline or {})["accuracy"]]
    assert (seeds["best"]["finalists"], seeds["best"]["values"]) == ([1, 3], pytest.approx(both))
    assert (seeds["baseline"]["finalists"], seeds["baseline"]["values"]) == ([0, 2], pytest.approx(both[::-1]))
    assert seeds["lift"]["difference"] == pytest.approx(0, abs=1e-12)
    assert seeds["lift"]["low"] < -0.1 < 0.1 < seeds["lift"]["high"]
    assert seeds["text"].endswith("the interval includes zero: no lift is shown")
    alike = measure_seeds(dataclasses.replace(run, seeds={"best": (1, 2), "baseline": (0, 3)}), "accuracy", measure)
    assert alike is not None
    assert alike["best"]["low"] is None
    assert alike["text"].count("no interval, as all seeds agree") == 3
    run.run_folder.finalists.trial(2).weights.write_bytes(b"damaged")
    alone = measure_seeds(run, "accuracy", measure)
    assert alone is not None
    assert (alone["best"], alone["baseline"], alone["lift"]) == (seeds["best"], None, None)
    assert "the seeds of the baseline are not measured on the test images: CorruptFileError" in capsys.readouterr().err
    run.run_folder.finalists.trial(3).weights.unlink()
    assert measure_seeds(run, "accuracy", measure) is None, "the best of two seeds alone would flatter"
    assert "model.safetensors is gone" in capsys.readouterr().err
    assert measure_seeds(final_run, "accuracy", measure) is None


def test_the_planted_errors_are_shown(evaluated: Evaluated) -> None:
    folder, results = evaluated
    examples = json.loads((folder.test / "examples.json").read_text())
    assert set(PLANTED) <= set(examples["worst"])
    assert set(PLANTED) <= set(examples["label_issues"]["rows"])
    heated = [entry["row"] for entry in examples["heat_maps"]]
    assert all(heated.count(row) == 2 for row in examples["worst"][:4])  # for the class said and for the true one
    issues = pd.read_csv(folder.test / "label_issues.csv", keep_default_na=False)
    assert len(issues) == examples["label_issues"]["num_found"]
    sections = build_sections(folder, results)
    for row in PLANTED:
        assert f'data-row="{row}"' in find(sections, "Worst errors first")
        assert f'data-row="{row}"' in find(sections, "Suspected label errors")


def test_the_report_has_all_sections(evaluated: Evaluated) -> None:
    sections = build_sections(*evaluated)
    assert [section.title for section in sections] == TITLES
    for section in sections:
        assert re.fullmatch(r"([^.]|\.\d)+\.", section.how_to_read), "one sentence"
    matrix = find(sections, "What is taken for what")
    counts = {cell: int(count) for cell, count in re.findall(r'data-cell="(\d-\d)"[^>]*>(\d+)</button>', matrix)}
    table = pd.read_csv(evaluated[0].test / "predictions.csv", keep_default_na=False)
    pairs = Counter(zip(map(CLASSES.index, table["true"]), map(CLASSES.index, table["predicted"]), strict=True))
    assert counts == {f"{true}-{said}": count for (true, said), count in pairs.items()}


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_click_on_a_cell_shows_its_images(evaluated: Evaluated, tmp_path: Path) -> None:
    page = "".join(str(section.html) for section in build_sections(*evaluated) if section.title in TITLES[2:5])
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{page}{CLICK}</body>")
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    process = subprocess.run(
        [CHROMIUM, *flags, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, check=True, timeout=300
    )
    found = re.search(r"<title>(.*?)</title>", process.stdout)
    assert found is not None, process.stderr
    first, *clicked = json.loads(found[1])
    table = pd.read_csv(evaluated[0].test / "predictions.csv", keep_default_na=False)
    images: dict[str, set[str]] = {}
    for row, (true, said) in enumerate(zip(table["true"], table["predicted"], strict=True)):
        images.setdefault(f"{CLASSES.index(true)}-{CLASSES.index(said)}", set()).add(str(row))
    assert {cell for cell, _ in clicked} == set(images)
    for cell, rows in clicked:
        assert len(set(rows)) == len(rows) > 0
        assert set(rows) <= images[cell]
    assert first[1], "the fullest error is shown before any click"


def test_names_are_escaped_and_no_path_is_disclosed(copied: Evaluated) -> None:
    folder, results = copied
    table = pd.read_csv(folder.test / "predictions.csv", keep_default_na=False)
    table["image"] = [f"/home/somebody/shirts/{row}.png" for row in table.index]
    table.to_csv(folder.test / "predictions.csv", index=False)
    html = "".join(str(section.html) for section in build_sections(folder, results))
    assert "<i>top" not in html
    assert "&lt;i&gt;top" in html
    assert "somebody" not in html
    assert f'title="shirts/{PLANTED[0]}.png"' in html


def test_a_run_from_before_images_were_kept_shows_what_it_has(copied: Evaluated) -> None:
    folder, results = copied
    for name in ("examples.json", "label_issues.csv", "probabilities.npy", "rejection.png", "rejection_report.json"):
        (folder.test / name).unlink()
    table = pd.read_csv(folder.test / "predictions.csv", keep_default_na=False)
    table[["image", "true", "predicted", "confidence"]].to_csv(folder.test / "predictions.csv", index=False)
    sections = build_sections(folder, results)
    assert [section.title for section in sections] == [*TITLES[:4], "Calibration"]
    assert 'data-row="' not in "".join(str(section.html) for section in sections)
    assert "<button" not in sections[2].html  # as there is nothing to show
    assert "platform.evaluate" in sections[3].how_to_read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("predictions.csv", "image,true\n"),
        ("predictions.csv", "image,true,predicted,confidence\na,NA,another,0.5\n"),
        ("predictions.csv", "image,true,predicted,confidence\na,NA,NA,0.5\n"),
        ("examples.json", "{}"),
        ("examples.json", '{"images": [{"row": 999, "true": "NA", "predicted": "NA"}]}'),
        ("rejection_report.json", "[]"),
    ],
)
def test_damage_is_an_error_that_names_the_file(name: str, content: str, copied: Evaluated) -> None:
    folder, results = copied
    (folder.test / name).write_text(content)
    with pytest.raises(CorruptFileError, match=re.escape(name)):
        build_sections(folder, results)


def test_a_damaged_picture_costs_that_picture(copied: Evaluated) -> None:
    folder, results = copied
    (folder.test / "rejection.png").write_bytes(b"no picture")
    section = find(build_sections(folder, results), "Refusing what is none of the classes")
    assert "rejection.png, a picture of the final evaluation, cannot be read" in section


def test_without_cleanlab_the_section_says_how_to_get_it(
    copied: Evaluated, final_run: FinalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = copied
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    labels = final_run.test.labels
    said = np.load(folder.test / "probabilities.npy").astype(np.float64)
    predictions = Predictions(labels=labels, probabilities=said, accepted=labels >= 0, scores=said[:, 0])
    evaluation._keep_examples(dataclasses.replace(final_run, folder=folder.test), predictions)
    assert "pip install 'raysweep[report]'" in find(build_sections(folder, results), "Suspected label errors")


def test_images_that_cannot_be_kept_cost_the_evaluation_nothing(
    final_run: FinalRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no gradient")

    monkeypatch.setattr(evaluation, "draw_heat_maps", fail)
    predictions = Predictions(
        labels=np.array([0]), probabilities=np.eye(4)[:1], accepted=np.array([True]), scores=np.zeros(1)
    )
    evaluation._keep_examples(dataclasses.replace(final_run, folder=tmp_path), predictions)
    assert "the report will show no test images: RuntimeError: no gradient" in capsys.readouterr().err


def test_of_many_classes_the_pairs_most_confused_are_listed(copied: Evaluated) -> None:
    folder, results = copied
    classes = tuple(f"class {number}" for number in range(MAX_MATRIX + 1))
    rows = [
        {"image": "a.png", "true": classes[n % 31], "predicted": classes[n % 7], "confidence": 0.5} for n in range(62)
    ]
    pd.DataFrame(rows).to_csv(folder.test / "predictions.csv", index=False)
    (folder.test / "examples.json").unlink()
    many = dataclasses.replace(
        results,
        data=dataclasses.replace(results.data, classes=classes),
        test=dataclasses.replace(results.test, num_images=62),
    )
    html = find(build_sections(folder, many), "What is taken for what")
    assert 'class="matrix"' not in html
    assert "The pairs most confused" in html
