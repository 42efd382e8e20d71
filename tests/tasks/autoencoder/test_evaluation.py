"""The final evaluation of autoencoder studies, on a run of three trained trials: errors, curve, probe, figures."""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from raysweep import atomic_files, file_guard
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.images import ImageSet, PreparedData
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.statistics import bootstrap_mean_difference
from raysweep.evaluate.stored_model import load_model
from raysweep.report.section import Section
from raysweep.run_folder import RunFolder
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.autoencoder.evaluation import evaluate
from raysweep.tasks.autoencoder.figures import span_manifold
from raysweep.tasks.autoencoder.latent_sizes import LatentSizes, PcaYardstick, SizeError, find_best_of_sizes
from raysweep.tasks.autoencoder.networks import Autoencoder
from raysweep.tasks.autoencoder.reconstruction import reconstruct
from raysweep.train.loop import fit
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import save_config

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("top left", "top right", "bottom left", "bottom right")
NOTE = "a note that stands everywhere"
DATA = DataConfig(image_size=28, channels=1, normalization="unit")
TASKS = {
    0: AutoencoderConfig(width=0.25),
    1: AutoencoderConfig(width=0.25, bottleneck="dense", latent_size=8, loss="mse", learning_rate=3e-3),
    2: AutoencoderConfig(width=0.25, bottleneck="dense", latent_size=8, variant="variational", learning_rate=3e-3),
}
STOPPED = 0
"""The trial that was to train an epoch more."""
FIGURES = {
    "reconstructions.png",
    "error_by_class.png",
    "latent_map.png",
    "latent_sizes.png",
    "latent_size_reconstructions.png",
    "traversals.png",
    "confusion_matrix.png",
    "curves.png",
}


@pytest.fixture(scope="module")
def run_of(
    tmp_path_factory: pytest.TempPathFactory,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
) -> Callable[[int, int], FinalRun]:
    """`(best, baseline)` -> the run of three trained trials as its final evaluation is given it."""
    sizes = {"train": 160, "val": 40, "test": 60}
    splits = {split: draw_squares(num_images, seed) for seed, (split, num_images) in enumerate(sizes.items())}
    data = save_prepared(tmp_path_factory.mktemp("squares"), splits, CLASSES)
    run_folder = RunFolder(tmp_path_factory.mktemp("run"))
    for number, task in TASKS.items():
        folder = run_folder.trial(number)
        training = TrainingConfig(epochs=4, batch_size=8, precision="fp32")
        config = TrialConfig(task=task, data=DATA, training=training, seed=number)
        planned = dataclasses.replace(training, epochs=5 if number == STOPPED else 4)
        save_config(folder.config, number, dataclasses.replace(config, training=planned), data.info, {})
        objective = Objective(metric="val/mse", direction="minimize")
        fit(config, data, objective, report=lambda report: None, folder=folder)

    def make(best: int, baseline: int) -> FinalRun:
        folders = {number: run_folder.trial(number) for number in (best, baseline)}
        models = {
            number: load_model(folder.weights, folder.config, torch.device("cpu")) for number, folder in folders.items()
        }
        return FinalRun(
            best=models[best],
            baseline=models[baseline],
            test=ImageSet(data.folder / "test"),
            data=data,
            run_folder=run_folder,
            folder=tmp_path_factory.mktemp("test"),
            data_root=None,
            histories={
                f"trial {number}": file_guard.read_json_lines(folder.metrics) for number, folder in folders.items()
            },
            note=NOTE,
        )

    return make


@pytest.fixture(scope="module")
def dense(run_of: Callable[[int, int], FinalRun]) -> tuple[FinalRun, dict[str, Any]]:
    run = run_of(1, 0)
    return run, evaluate(run)


def test_errors_are_those_of_the_images_decoded_from_their_codes(dense: tuple[FinalRun, dict[str, Any]]) -> None:
    run, results = dense
    found = reconstruct(run.best, run.test)
    images = run.test.gather(np.arange(len(run.test)))[..., 0] / 255
    network = run.best.modules["model"].eval()
    assert isinstance(network, Autoencoder)
    assert run.baseline is not None
    with torch.no_grad():
        again = network.decode(torch.from_numpy(found.codes)).sigmoid()[:, 0].double().numpy()
    assert found.codes.shape == (60, 8)
    assert found.errors == pytest.approx(np.square(again - images).mean(axis=(1, 2)), rel=1e-4)
    assert results["mse"] == pytest.approx(found.errors.mean(), rel=1e-5)
    assert results["baseline"]["mse"] == pytest.approx(reconstruct(run.baseline, run.test).errors.mean(), rel=1e-5)


def test_results_are_plain_finite_values_with_what_the_platform_shows(dense: tuple[FinalRun, dict[str, Any]]) -> None:
    run, results = dense
    atomic_files.write_json(run.folder / "copy.json", results)  # refuses NaN and anything but plain values
    assert (results["num_images"], results["code_size"]) == (60, 8)
    assert f"{results['mse']:.5f}" in results["headline"]
    assert results["lift"]["difference"] == pytest.approx(results["mse"] - results["baseline"]["mse"], rel=1e-4)
    assert results["lift"]["low"] < results["lift"]["difference"] < results["lift"]["high"]
    assert results["pca_ratio"] == pytest.approx(results["mse"] / results["pca_mse"])
    assert [entry["size"] for entry in results["latent_sizes"]["sizes"]] == [8, 32]


def test_the_texts_have_figures_and_note(dense: tuple[FinalRun, dict[str, Any]]) -> None:
    run, results = dense
    text = (run.folder / "reconstruction_report.txt").read_text()
    for expected in (NOTE, results["lift"]["text"], f"{results['bce']:.5f}", f"{results['pca_mse']:.5f}", *CLASSES):
        assert expected in text
    assert "negative ELBO     " not in text  # neither model is variational
    probe = (run.folder / "classification_report.txt").read_text()
    assert NOTE in probe
    assert "macro avg" in probe
    report = json.loads((run.folder / "classification_report.json").read_text())["report"]
    assert report["macro avg"]["support"] == 60
    assert f"{report['accuracy']:.4f}" in probe


def test_the_probe_reads_the_class_from_the_code(dense: tuple[FinalRun, dict[str, Any]]) -> None:
    run, _ = dense
    report = json.loads((run.folder / "classification_report.json").read_text())["report"]
    assert report["accuracy"] > 0.5  # of 4 classes; the code of a trained encoder tells the quarters apart


def test_all_figures_are_drawn(dense: tuple[FinalRun, dict[str, Any]]) -> None:
    run, _ = dense
    assert {path.name for path in run.folder.glob("*.png")} == FIGURES
    for name in FIGURES:
        with Image.open(run.folder / name) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_the_report_shows_errors_sizes_and_all_pictures(
    dense: tuple[FinalRun, dict[str, Any]], build_task_sections: Callable[..., list[Section]]
) -> None:
    run, results = dense
    sections = {section.title: str(section.html) for section in build_task_sections(run, results)}
    shown = FIGURES - {"curves.png", "latent_sizes.png"}  # of which the page draws its own
    assert sum("<img" in html for html in sections.values()) == len(shown)
    for value in (results["mse"], results["baseline"]["mse"], results["pca_mse"]):
        assert f"{value:.5f}" in sections["Reconstruction error"]
    curve = json.loads(re.findall(r">({.*})</script>", sections["How large a code has to be"])[0])
    assert [point["x"] for point in curve["data"]] == [[8, 32], [8, 32]]
    assert curve["data"][0]["y"] == [entry["error"] for entry in results["latent_sizes"]["sizes"]]
    assert curve["data"][0]["marker"]["symbol"] == ["circle", "circle-open"]


def test_a_variational_autoencoder_shows_its_prior_and_its_parts_of_the_elbo(
    run_of: Callable[[int, int], FinalRun],
) -> None:
    run = run_of(2, 2)
    results = evaluate(run)
    assert {path.name for path in run.folder.glob("*.png")} == FIGURES | {"prior_samples.png", "manifold.png"}
    assert "no lift" in results["lift"]["text"]
    assert results["kl"] > 0
    assert results["negative_elbo"] > results["kl"]
    assert f"{results['negative_elbo']:.5f}" in (run.folder / "reconstruction_report.txt").read_text()


def test_a_baseline_that_failed_is_said_and_nothing_stands_in_for_it(run_of: Callable[[int, int], FinalRun]) -> None:
    whole = run_of(1, 0)
    histories = {name: rows for name, rows in whole.histories.items() if name == "trial 1"}
    run = dataclasses.replace(whole, baseline=None, baseline_failure="out of memory", histories=histories)
    results = evaluate(run)
    assert results["baseline"] is None
    assert results["lift"] == {"text": "the baseline failed, so that no lift is stated: out of memory"}
    assert "(baseline failed) with a code" in results["headline"]
    text = (run.folder / "reconstruction_report.txt").read_text()
    assert results["lift"]["text"] in text
    assert "the best trial is the baseline" not in text


def test_the_best_of_a_size_is_the_lowest_validation_error_of_any_trial(run_of: Callable[[int, int], FinalRun]) -> None:
    run = run_of(1, 0)
    found = find_best_of_sizes(run.run_folder, run.data.info, [])
    rows = {number: file_guard.read_json_lines(run.run_folder.trial(number).metrics) for number in TASKS}
    lowest = {number: min(row["val/mse"] for row in rows[number]) for number in TASKS}
    assert found[32][:2] == (lowest[0], 0)
    better = min((1, 2), key=lambda number: lowest[number])
    assert found[8][:2] == (lowest[better], better)
    assert (found[32][3], found[8][3]) == (True, False), "it was stopped"


def test_the_smallest_size_is_the_first_within_5_percent_of_the_best() -> None:
    def curve(*errors: float) -> LatentSizes:
        sizes = [
            SizeError(size=2 ** (k + 1), error=error, pca_error=1.0, number=k, epoch=1)
            for k, error in enumerate(errors)
        ]
        return LatentSizes(sizes=tuple(sizes), num_images=10)

    assert curve(0.4, 0.2, 0.104, 0.1).smallest.size == 8
    assert curve(0.4, 0.2, 0.106, 0.1).smallest.size == 16
    assert curve(0.1, 0.2, 0.3).smallest.size == 2


def test_the_yardstick_is_the_pca_of_each_size(run_of: Callable[[int, int], FinalRun]) -> None:
    run = run_of(1, 0)
    yardstick = PcaYardstick(run.data.train, DATA, most=8)
    train, test = (
        images.gather(np.arange(len(images))).reshape(len(images), -1) / 255.0 for images in (run.data.train, run.test)
    )
    for size, error in yardstick.measure(run.test, [2, 8]).items():
        pca = PCA(size, svd_solver="full").fit(train)
        expected = np.square(pca.inverse_transform(pca.transform(test)) - test).mean()
        assert error == pytest.approx(expected, rel=0.02)  # the randomised solver is close, not equal


def test_the_manifold_spans_the_two_values_that_vary_most() -> None:
    codes = np.random.default_rng(0).normal(0, [0.1, 2.0, 0.2, 1.0], (100, 4))
    grid = span_manifold(codes, 5).reshape(5, 5, 4)
    assert (grid[..., [0, 2]] == 0).all()
    assert (np.diff(grid[0, :, 1]) > 0).all()
    assert (np.diff(grid[:, 0, 3]) < 0).all()
    assert grid[2, 2] == pytest.approx(0)


def test_the_interval_of_a_paired_difference_is_that_of_its_mean() -> None:
    draw = np.random.default_rng(0)
    hard = draw.exponential(1.0, 2000)  # what makes an image hard for both cancels
    lift = bootstrap_mean_difference(hard + draw.normal(-0.05, 0.1, 2000), hard)
    assert lift.difference == pytest.approx(-0.05, abs=0.01)
    assert (lift.high - lift.low) / 2 == pytest.approx(1.96 * 0.1 / 2000**0.5, rel=0.15)
