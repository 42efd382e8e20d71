"""Runs side by side: the same images or a refusal, differences image by image with intervals, a figure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import binomtest

from raysweep import atomic_files
from raysweep.commands.compare import compare
from raysweep.config import Objective
from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate.statistics import paired_bootstrap
from raysweep.evaluate.test_scores import TestScores
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder
from raysweep.runs.comparison import Comparison, compare_runs, measure_interval
from raysweep.runs.comparison_text import describe_comparison
from raysweep.tasks.autoencoder import test_scores as of_autoencoder
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.gan.config import GanConfig

FIRST = "1111100000" * 4
BETTER = "1111111100" * 4
ALIKE = "1111010000" + FIRST[10:]
"""As often right as the first, but on another image."""
MakeRun = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> Path:
    """Runs on the same images, and some that are no match for them."""
    storage = tmp_path_factory.mktemp("storage")
    for name, right in (("first", FIRST), ("better", BETTER), ("alike", ALIKE)):
        make_run(storage / name, right, num_trials=3)
    make_run(storage / "other_images", FIRST, digest="d2", num_trials=1)
    make_run(storage / "by_loss", FIRST, num_trials=1, objective=Objective(metric="val/loss", direction="minimize"))
    make_run(storage / "unfinished", FIRST, num_trials=2, end="trial")
    return storage


def compare_named(storage: Path, *names: str) -> Comparison:
    return compare_runs([load_view(RunFolder(storage / name)) for name in names])


def as_bools(right: str) -> Any:
    return np.array([answer == "1" for answer in right])


def test_runs_are_compared_with_the_first_image_by_image(storage: Path) -> None:
    first, better, alike = compare_named(storage, "first", "better", "alike").runs
    assert (first.test_value, better.test_value, alike.test_value) == (0.5, 0.8, 0.5)
    assert first.against_first is None
    assert better.against_first == paired_bootstrap(as_bools(BETTER), as_bools(FIRST))
    assert not better.against_first.includes_zero
    assert alike.against_first is not None
    assert alike.against_first.includes_zero
    share = binomtest(20, 40).proportion_ci(0.95, method="wilson")
    assert (first.low, first.high) == (share.low, share.high)


def test_the_table_says_what_is_shown_and_what_differs(storage: Path, tmp_path: Path, make_run: MakeRun) -> None:
    text = describe_comparison(compare_named(storage, "first", "better", "alike"))
    assert "accuracy on the same 40 test images of drawn (d1), higher is better" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "+0.3000" in lines["better"]
    assert " yes " in lines["better"]
    assert " no " in lines["alike"]
    assert "chosen on the test images" in text
    assert "synthetic" in text
    assert "best configuration" not in text
    other = make_run(tmp_path / "longer", FIRST, num_trials=1, seed=5)
    record = json.loads(other.study.read_text())
    record.pop("checksum")
    record["training"]["batch_size"] = 7
    del record["data"]["cache"]  # as before there was such a field
    other.study.write_text(json.dumps(record))
    views = [load_view(folder) for folder in (RunFolder(storage / "first"), other)]
    assert compare_runs(views).runs[1].config == {"training.batch_size": 7}


def test_which_figures_are_better_is_that_of_the_test_images(storage: Path) -> None:
    """The search minimised a loss; the test images tell an accuracy."""
    text = describe_comparison(compare_named(storage, "by_loss", "by_loss"))
    assert "accuracy on the same 40 test images of drawn (d1), higher is better" in text
    assert str(storage / "by_loss") in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first"], "two runs or more, got 1"),
        (["first", "other_images"], r"same digest of the images, got\n.*first: d1 \(drawn\)\n.*other_images: d2"),
        (["first", "by_loss"], r"same objective, got\n.*maximize val/accuracy\n.*minimize val/loss"),
        (["first", "unfinished"], r"only finished runs can be compared, got .*unfinished: it is not finished"),
    ],
)
def test_what_cannot_be_compared_is_refused(storage: Path, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare_named(storage, *names)


def test_predictions_that_are_damaged_are_said(tmp_path: Path, storage: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "run", FIRST, num_trials=1)
    path = run.test / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(CorruptFileError, match=r"39 images where results\.json has 40.*evaluate RUN"):
        compare_runs([load_view(RunFolder(storage / "first")), load_view(run)])


def test_the_command_draws_a_figure(storage: Path, tmp_path: Path) -> None:
    names = [str(storage / name) for name in ("first", "better")]
    figure = tmp_path / "figure.png"
    done = CliRunner().invoke(compare, [*names, "--figure", str(figure)])
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"figure: {figure}\n")
    with Image.open(figure) as image:
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(10**6) or []) > 20
    values = json.loads(CliRunner().invoke(compare, [*names, "--figure", str(figure), "--json"]).stdout)
    assert values["runs"][1]["against_first"]["includes_zero"] is False
    assert values["runs"][0]["against_first"] is None
    assert values["data_digest"] == "d1"


def test_errors_of_an_autoencoder_are_kept_and_compared(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    errors = np.random.default_rng(0).random(50)
    of_autoencoder.save_errors(folder.test, errors)

    class Figures:
        test = type("", (), {"num_images": 50, "mse": float(errors.mean())})

    scores = of_autoencoder.load_test_scores(folder, Figures())  # type: ignore[arg-type]
    assert scores.by_image is not None
    np.testing.assert_allclose(scores.by_image, errors, rtol=1e-6)
    low, high = measure_interval(scores)
    assert low is not None
    assert high is not None
    assert low < scores.value < high
    assert high - low == pytest.approx(2 * 2.01 * errors.std(ddof=1) / 50**0.5, rel=0.01)
    atomic_files.remove(folder.test / of_autoencoder.FILE)
    earlier = of_autoencoder.load_test_scores(folder, Figures())  # type: ignore[arg-type]
    assert earlier.by_image is None
    assert "evaluate RUN" in earlier.note
    assert measure_interval(earlier) == (None, None)


def test_a_figure_of_all_images_together_has_no_interval() -> None:
    scores = TestScores(metric="frechet_distance", direction="minimize", value=3.0)
    assert measure_interval(scores) == (None, None)


@pytest.mark.parametrize("config", [AutoencoderConfig, GanConfig])
def test_each_task_tells_its_scores(config: Any) -> None:
    from raysweep.registry import load_object

    assert callable(load_object(config.test_scores))
