"""The final evaluation of GAN studies on tiny real generators: reports, figures, conditional extras, copies found."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raysweep import atomic_files
from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.images import ImageSet, PreparedData
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel
from raysweep.report.section import Section
from raysweep.run_folder import RunFolder
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.evaluation import evaluate
from raysweep.tasks.gan.figures import choose_epochs, load_progress
from raysweep.tasks.gan.generated import draw_noise, generate_judged, generate_pixels, interpolate, iterate_real
from raysweep.tasks.gan.judge.network import load_judge
from raysweep.tasks.gan.judge.store import ensure_judge
from raysweep.tasks.gan.neighbours import find_neighbours
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, CLASSES = 28, ("top left", "top right", "bottom left", "bottom right")
NOTE = "a note that stands everywhere"


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
) -> PreparedData:
    sizes = {"train": 80, "val": 24, "test": 48}
    splits = {split: draw_squares(num_images, seed) for seed, (split, num_images) in enumerate(sizes.items())}
    return save_prepared(tmp_path_factory.mktemp("squares"), splits, CLASSES)


def make_model(data: PreparedData, number: int, **task: Any) -> StoredModel:
    """A generator with random weights."""
    config = TrialConfig(
        task=GanConfig(**{"network": "dense", "latent_size": 6, **task}),
        data=DataConfig(image_size=SIDE, channels=1, normalization="symmetric"),
        training=TrainingConfig(epochs=2, batch_size=8, precision="fp32"),
    )
    torch.manual_seed(number)
    trained = build_task(config, data.info)
    return StoredModel(
        number=number,
        config=config,
        info=data.info,
        task=trained,
        modules=trained.load_modules(),
        facts={"epoch": 2, "value": 1.0},
    )


def make_history(first: float) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(epoch),
            "train/loss_generator": first,
            "train/loss_discriminator": 1 / epoch,
            "val/frechet_distance": first / epoch,
        }
        for epoch in (1, 2)
    ]


def make_run(data: PreparedData, folder: Path, best: StoredModel, baseline: StoredModel) -> FinalRun:
    trained = RunFolder(folder).trial(best.number)
    trained.samples.mkdir(parents=True)
    for epoch in (1, 2):
        Image.fromarray(np.full((4 * SIDE, 4 * SIDE), 40 * epoch, dtype=np.uint8)).save(trained.sample(epoch))
    return FinalRun(
        best=best,
        baseline=baseline,
        test=ImageSet(data.folder / "test"),
        data=data,
        run_folder=RunFolder(folder),
        folder=RunFolder(folder).test,
        data_root=None,
        histories={f"best (trial {best.number})": make_history(3.0), "baseline (trial 0)": make_history(5.0)},
        note=NOTE,
    )


@pytest.fixture(scope="module")
def conditional(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> tuple[FinalRun, dict[str, Any]]:
    """A conditional generator as the best, an unconditional one as the baseline, evaluated."""
    best, baseline = make_model(data, 3, conditional=True), make_model(data, 0)
    run = make_run(data, tmp_path_factory.mktemp("run"), best, baseline)
    return run, evaluate(run)


def test_results_are_plain_finite_values_with_what_the_platform_shows(
    conditional: tuple[FinalRun, dict[str, Any]],
) -> None:
    run, results = conditional
    atomic_files.write_json(run.folder / "copy.json", results)  # refuses NaN and anything but plain values
    assert results["num_images"] == 48
    assert results["report"] == "generation_report.txt"
    assert f"{results['frechet_distance']:.3f}" in results["headline"]
    assert f"{results['baseline']['frechet_distance']:.3f}" in results["headline"]
    assert results["lift"]["low"] <= results["lift"]["difference"] <= results["lift"]["high"]
    expected = results["frechet_distance"] - results["baseline"]["frechet_distance"]
    assert results["lift"]["difference"] == pytest.approx(expected)
    assert sum(results["class_counts"]) == 48
    assert len(results["judge"]["digest"]) == 64


def test_real_images_beat_random_generators_in_every_column(conditional: tuple[FinalRun, dict[str, Any]]) -> None:
    _, results = conditional
    assert results["real_frechet_distance"] < results["frechet_distance"]
    assert results["real"]["frechet_distance"] < results["baseline"]["frechet_distance"]
    assert results["real"]["coverage"] > results["coverage"]
    assert results["train_on_synthetic"]["real"] > results["synthetic_accuracy"]


def test_the_report_has_all_scores_and_the_note(conditional: tuple[FinalRun, dict[str, Any]]) -> None:
    run, results = conditional
    text = (run.folder / "generation_report.txt").read_text()
    for name in ("frechet_distance", "coverage", "density", "precision", "recall"):
        assert f"{results[name]:.4f}" in text
        assert f"{results['baseline'][name]:.4f}" in text
    assert NOTE in text
    assert results["lift"]["text"] in text
    assert results["judge"]["digest"] in text
    assert "Train on synthetic" in text
    assert "best: class asked for against class recognised" in text
    assert "baseline: class asked for" not in text  # it cannot be asked
    stored = json.loads((run.folder / "generation_report.json").read_text())
    assert stored["note"] == NOTE
    assert stored["frechet_distance"] == results["frechet_distance"]
    assert set(stored["asked_for_and_recognised"]) == {"best"}
    assert set(CLASSES) < set(stored["asked_for_and_recognised"]["best"])


def test_all_figures_of_a_conditional_generator_are_drawn(conditional: tuple[FinalRun, dict[str, Any]]) -> None:
    run, _ = conditional
    assert {path.stem for path in run.folder.glob("*.png")} == {
        "samples",
        "progress",
        "interpolations",
        "nearest_training_images",
        "curves",
        "classes",
        "confusion_matrix",
    }
    for path in run.folder.glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5, path


def test_the_report_shows_grids_scores_and_classes(
    conditional: tuple[FinalRun, dict[str, Any]], build_task_sections: Callable[..., list[Section]]
) -> None:
    run, results = conditional
    sections = {section.title: str(section.html) for section in build_task_sections(run, results)}
    assert sum("<img" in html for html in sections.values()) == 6  # the classes are drawn by the page
    scores = sections["The judge's figures"]
    for column in (results, results["baseline"], results["real"]):
        assert f"{column['frechet_distance']:.4f}" in scores
    assert f"{results['train_on_synthetic']['synthetic']:.2%}" in scores
    bars = json.loads(re.findall(r">({.*})</script>", sections["Which classes it makes"])[0])["data"]
    assert [bar["name"] for bar in bars] == ["best", "baseline", "real images"]
    assert bars[0]["y"] == [count / 48 for count in results["class_counts"]]


def test_evaluation_again_gives_the_same(
    conditional: tuple[FinalRun, dict[str, Any]], data: PreparedData, tmp_path: Path
) -> None:
    run, results = conditional
    assert run.baseline is not None
    again = evaluate(make_run(data, tmp_path, run.best, run.baseline))
    assert again == results


def test_a_baseline_that_is_the_best_has_no_lift(data: PreparedData, tmp_path: Path) -> None:
    model = make_model(data, 0)
    run = make_run(data, tmp_path, model, model)
    results = evaluate(run)
    assert results["lift"]["text"].startswith("the best trial is the baseline: no lift")
    assert results["baseline"]["frechet_distance"] == results["frechet_distance"]
    assert results["train_on_synthetic"] is None
    assert not (run.folder / "confusion_matrix.png").exists()
    assert "asked for" not in (run.folder / "generation_report.txt").read_text()


def test_a_baseline_that_failed_is_said_and_nothing_stands_in_for_it(data: PreparedData, tmp_path: Path) -> None:
    whole = make_run(data, tmp_path, make_model(data, 3, conditional=True), make_model(data, 0))
    histories = {name: rows for name, rows in whole.histories.items() if name.startswith("best")}
    run = dataclasses.replace(whole, baseline=None, baseline_failure="out of memory", histories=histories)
    results = evaluate(run)
    assert results["baseline"] is None
    assert results["lift"] == {"text": "the baseline failed, so that no lift is stated: out of memory"}
    assert "(baseline failed, real images" in results["headline"]
    text = (run.folder / "generation_report.txt").read_text()
    assert results["lift"]["text"] in text
    assert "baseline: failed: out of memory" in text
    assert "the best trial is the baseline" not in text


def test_generated_images_are_the_same_one_by_one_and_judged_as_8_bit_images(data: PreparedData) -> None:
    model, (judge, _) = make_model(data, 1, conditional=True), load_judge(ensure_judge(data))
    labels = np.arange(20) % len(CLASSES)
    generated = generate_judged(model, judge, labels, seed=4)
    noise = draw_noise(model, 20, seed=4)
    one = np.concatenate([generate_pixels(model, noise[i : i + 1], labels[i : i + 1]) for i in range(20)])
    assert np.abs(one.astype(int) - generated.images).max() <= 1  # sums in another order
    with torch.inference_mode():
        features, _ = judge(torch.from_numpy(generated.images).permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(generated.features, features)
    other = generate_pixels(model, noise, (labels + 1) % len(CLASSES))
    assert not np.array_equal(other, generated.images)


def test_copies_of_training_images_are_found(data: PreparedData) -> None:
    def flat(images: Iterable[torch.Tensor]) -> torch.Tensor:
        return torch.cat([batch.flatten(1) for batch in images])

    config = make_model(data, 0).config.data
    train = flat(iterate_real(data.train, config, torch.device("cpu")))
    test = flat(iterate_real(ImageSet(data.folder / "test"), config, torch.device("cpu")))
    found = find_neighbours(train[[5, 9]], test, train.split(30))
    assert found.rows[:, 0].tolist() == [5, 9]
    assert found.summarise()["generated_median"] < 0.02 < found.summarise()["test_smallest"]


def test_interpolation_goes_from_end_to_end_on_the_shell() -> None:
    first, last = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    path = interpolate(first, last, 7)
    torch.testing.assert_close(path[0], first)
    torch.testing.assert_close(path[-1], last)
    lengths = path.norm(dim=1)
    low, high = sorted((float(first.norm()), float(last.norm())))
    assert 0.95 * low < float(lengths.min()) <= float(lengths.max()) < 1.05 * high


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([3], [3]),
        (list(range(1, 9)), list(range(1, 9))),
        (list(range(1, 501)), [1, 2, 6, 14, 35, 85, 206, 500]),
    ],
)
def test_epochs_of_the_strip_are_spread_on_a_log_scale(epochs: list[int], expected: list[int]) -> None:
    assert choose_epochs(epochs) == expected


def test_progress_is_read_in_the_order_of_epochs(tmp_path: Path) -> None:
    for epoch in (10, 2, 1):
        Image.fromarray(np.full((8, 8, 3), epoch, dtype=np.uint8)).save(tmp_path / f"epoch_{epoch:04d}.png")
    grids = load_progress(tmp_path)
    assert list(grids) == [1, 2, 10]
    assert [int(grid[0, 0, 0]) for grid in grids.values()] == [1, 2, 10]
    assert load_progress(tmp_path / "nothing") == {}
