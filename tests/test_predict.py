"""Predictions of files: batches and threads change nothing, bad files stay lines, tables, folders and embeddings."""

import csv
import io
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from raysweep import predict as prediction
from raysweep.commands.predict import predict
from raysweep.config import DataConfig
from raysweep.data.batches import normalise_images
from raysweep.data.decode import decode_image
from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate.stored_model import load_best
from raysweep.predict import choose_batch_size, describe_batch, find_images, iterate_predictions, predict_files
from raysweep.prediction_files import check_sort_folder, name_folder, sort_image
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.labelling import Labeller, load_labeller
from raysweep.tasks.classification.networks import Classifier
from raysweep.tasks.classification.rejection.detector import Detector
from raysweep.train.precision import TF32_BACKENDS
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("T-shirt/top", "Bag", "Coat", "Dress")


@pytest.fixture(scope="module")
def run(keep_squares: Callable[..., RunFolder]) -> RunFolder:
    return keep_squares(CLASSES)


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, draw_squares: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> Path:
    """40 images in two folders, named after their labels; one that is cut short, one that is empty, and noise."""
    folder = tmp_path_factory.mktemp("images")
    pixels, labels = draw_squares(40, 3)
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / ("deep" if index % 2 else ".") / "here"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0].astype(np.uint8)).save(place / f"{label}_{index:02d}.png")
    whole = next((folder / "here").iterdir())
    (folder / "cut.png").write_bytes(whole.read_bytes()[:80])
    (folder / "empty.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


def good(images: Path) -> list[Path]:
    return sorted(images.rglob("*_*.png"))


def test_a_folder_and_a_pattern_name_the_same_files_as_their_names(images: Path) -> None:
    assert set(find_images([images])) == {*good(images), images / "cut.png", images / "empty.png", images / "noise.png"}
    assert set(find_images([images / "**" / "*_*.png"])) == set(good(images))
    nowhere = [images / "no.png", images / "no*.jpg"]
    assert find_images(nowhere) == nowhere


def test_labels_are_those_of_the_model_one_by_one(
    run: RunFolder, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "BATCH_SIZE", 7)  # the last batch is not full
    files = good(images)
    rows = predict_files(run, files)
    model = load_best(run, torch.device("cpu"))
    detector = Detector.load(run.best.detector, model)
    assert [row["image"] for row in rows] == [str(path) for path in files]
    assert np.mean([row["label"] == CLASSES[int(path.name[0])] for path, row in zip(files, rows, strict=True)]) > 0.9
    spread = np.std([row["score"] for row in rows])
    for path, row in zip(files, rows, strict=True):
        pixels = decode_image(path.read_bytes(), size=28, channels=1)
        normalised = normalise_images(pixels[None], model.config.data, torch.device("cpu"))
        probabilities = model.task.infer(model.modules["model"], normalised)[0].softmax(dim=0)
        score = float(detector.score(model, normalised))
        assert row["label"] == CLASSES[int(probabilities.argmax())]
        assert row["confidence"] == pytest.approx(float(probabilities.max()), abs=1e-5)
        assert row["score"] == pytest.approx(score, abs=0.05 * spread)
        assert row["rejected"] == (row["score"] < row["threshold"])


def test_workers_change_nothing_and_leave_threads_as_they_were(
    run: RunFolder, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = good(images) * 5
    monkeypatch.setattr(prediction, "count_cores", lambda: 1)
    monkeypatch.setattr(prediction, "BATCH_SIZE", 3)
    alone = predict_files(run, files)
    torch.set_num_threads(2)
    monkeypatch.setattr(prediction, "count_cores", lambda: 1000)
    assert predict_files(run, files) == alone
    some = iterate_predictions(run, files)
    assert next(some).row == alone[0]
    del some  # half way
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert predict_files(run, []) == []


@pytest.mark.parametrize("is_thread_safe", [True, False])
def test_an_error_of_the_model_is_raised(
    run: RunFolder, images: Path, monkeypatch: pytest.MonkeyPatch, is_thread_safe: bool
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Labeller, "is_thread_safe", is_thread_safe)
    monkeypatch.setattr(prediction, "describe_batch", fail)
    with pytest.raises(MemoryError, match="no room"):
        predict_files(run, good(images))


def test_in_turn_threads_only_decode_and_whole_batches_are_labelled_by_the_caller(
    run: RunFolder, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*good(images) * 4, images / "cut.png", images / "nowhere.png"]
    monkeypatch.setattr(prediction, "count_cores", lambda: 1)
    alone = predict_files(run, files)
    monkeypatch.setattr(prediction, "count_cores", lambda: 1000)
    decoders, labellers, sizes = set(), set(), []
    decode, describe = prediction._decode_files, prediction.describe_batch

    def follow_decoding(part: Sequence[Path], config: DataConfig) -> Any:
        decoders.add(threading.get_ident())
        return decode(part, config)

    def follow_labelling(labeller: Labeller, pixels: torch.Tensor, top_k: int) -> Any:
        labellers.add((threading.get_ident(), torch.get_num_threads()))
        sizes.append(len(pixels))
        return describe(labeller, pixels, top_k)

    monkeypatch.setattr(prediction, "_decode_files", follow_decoding)
    monkeypatch.setattr(prediction, "describe_batch", follow_labelling)
    monkeypatch.setattr(Labeller, "is_thread_safe", False)  # as on a GPU
    torch.set_num_threads(2)
    rows = predict_files(run, files)
    assert labellers == {(threading.get_ident(), 2)}
    assert threading.get_ident() not in decoders
    assert 1 < len(decoders) <= prediction.MAX_WORKERS
    assert sizes == [64, 64, 32], "whole batches, however many threads decode"
    assert rows == alone
    some = iterate_predictions(run, files)
    assert next(some).row == alone[0]
    del some  # half way
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("num_files", "num_workers", "side", "channels", "size"),
    [
        (10_000, 2, 64, 3, 64),
        (10_000, 2, 224, 3, 64),
        (10_000, 16, 28, 1, 64),
        (10_000, 16, 64, 3, 64),
        (10_000, 16, 112, 3, 32),
        (10_000, 16, 224, 3, 8),
        (10_000, 16, 512, 3, 8),
        (10_000, 2, 512, 3, 12),
        (20, 2, 64, 3, 10),
        (3, 3, 64, 3, 1),
        (0, 1, 64, 3, 1),
    ],
)
def test_batches_on_cores_share_a_bound_on_memory(
    num_files: int, num_workers: int, side: int, channels: Any, size: int
) -> None:
    config = DataConfig(image_size=side, channels=channels, normalization="unit")
    assert choose_batch_size(num_files, num_workers, config) == size


def test_a_model_that_is_used_computes_fp32_without_tf32(run: RunFolder) -> None:
    before = [backend.allow_tf32 for backend in TF32_BACKENDS]
    try:
        for backend in TF32_BACKENDS:
            backend.allow_tf32 = True
        load_best(run, torch.device("cpu"))
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        for backend, allow in zip(TF32_BACKENDS, before, strict=True):
            backend.allow_tf32 = allow


def test_of_equal_classes_the_first_as_in_evaluation(run: RunFolder) -> None:
    labeller = load_labeller(run, load_best(run, torch.device("cpu")))
    assert isinstance(labeller.network, Classifier)
    with torch.no_grad():
        for parameter in labeller.network.last_linear.parameters():
            parameter.zero_()
        (said,) = describe_batch(labeller, torch.zeros(1, 28, 28, 1, dtype=torch.uint8), top_k=4)
    assert [guess["label"] for guess in said.row["top"]] == list(CLASSES)
    assert said.row["label"] == CLASSES[0]


def test_bad_files_are_lines_in_their_places(run: RunFolder, images: Path) -> None:
    files = [good(images)[0], images / "cut.png", images / "nowhere.png", images / "empty.png", good(images)[1]]
    rows = predict_files(run, files)
    assert [row["image"] for row in rows] == [str(path) for path in files]
    assert ["error" in row for row in rows] == [False, True, True, True, False]
    assert [row["error"][:10] for row in rows[1:4]] == ["truncated:", "[Errno 2] ", "empty file"]


def test_the_likeliest_classes(run: RunFolder, images: Path) -> None:
    (row,) = predict_files(run, good(images)[:1], top_k=9)
    assert row["top"][0] == {"label": row["label"], "confidence": row["confidence"]}
    assert sorted(entry["label"] for entry in row["top"]) == sorted(CLASSES)
    assert sum(entry["confidence"] for entry in row["top"]) == pytest.approx(1)


@pytest.mark.parametrize("normalization", ["imagenet", "unit", "symmetric"])
def test_the_labeller_normalises_as_evaluation_does(run: RunFolder, normalization: str) -> None:
    data = DataConfig(image_size=20, cache_size=28, channels=3, normalization=normalization)  # type: ignore[arg-type]
    model = load_best(run, torch.device("cpu"))
    object.__setattr__(model, "config", TrialConfig(task=model.config.task, data=data, training=model.config.training))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    expected = normalise_images(pixels, data, torch.device("cpu"))
    assert torch.allclose(load_labeller(run, model).normalise(torch.from_numpy(pixels)), expected, atol=1e-6)


def test_a_table_sorted_copies_and_embeddings(run: RunFolder, images: Path, tmp_path: Path) -> None:
    arguments = [str(run.path), str(images), "--csv", "--top-k", "2"]
    arguments += ["--sort-into", str(tmp_path / "sorted"), "--embeddings", str(tmp_path / "e.npz")]
    result = CliRunner().invoke(predict, arguments)
    assert result.exit_code == 1, result.output  # two files are broken
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 43
    assert {Path(row["image"]).name for row in rows if row["error"]} == {"cut.png", "empty.png"}
    taken = [row for row in rows if not row["error"]]
    assert all(float(row["confidence"]) >= float(row["confidence_2"]) for row in taken)
    for row in taken:
        place = "_rejected" if row["rejected"] == "True" else row["label"].replace("/", "-")
        copy = tmp_path / "sorted" / place / Path(row["image"]).name
        assert copy.read_bytes() == Path(row["image"]).read_bytes()
    assert (tmp_path / "sorted" / "_rejected" / "noise.png").is_file()
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 41
    with np.load(tmp_path / "e.npz") as kept:
        names, embeddings = kept["images"], kept["embeddings"]
    assert names.tolist() == [row["image"] for row in taken]
    assert (embeddings.shape, embeddings.dtype) == ((41, 128), np.float32)
    assert len({tuple(row) for row in embeddings.tolist()}) == 41


def test_copies_with_one_name_are_kept_apart(tmp_path: Path) -> None:
    for index in range(3):
        image = tmp_path / str(index) / "same.png"
        image.parent.mkdir()
        image.write_text(str(index))
        sort_image(tmp_path / "sorted", {"image": str(image), "label": "a", "rejected": False})
    assert {path.name: path.read_text() for path in (tmp_path / "sorted" / "a").iterdir()} == {
        "same.png": "0",
        "same_2.png": "1",
        "same_3.png": "2",
    }


def test_many_copies_with_one_name_take_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, place = tmp_path / "same.png", tmp_path / "sorted" / "a"
    image.write_text("next")
    place.mkdir(parents=True)
    for name in ("same.png", *(f"same_{number}.png" for number in range(2, 1001))):
        (place / name).touch()
    looks: list[Path] = []
    exists = Path.exists

    def follow(path: Path, **values: Any) -> bool:
        looks.append(path)
        return exists(path, **values)

    monkeypatch.setattr(Path, "exists", follow)
    target = sort_image(tmp_path / "sorted", {"image": str(image), "label": "a", "rejected": False})
    assert (target.name, target.read_text()) == ("same_1001.png", "next")
    assert len(looks) < 30


@pytest.mark.parametrize("label", ["..", "../up", "/etc", "a/b", "_rejected", "", "."])
def test_no_class_s_name_leads_out_of_its_folder(label: str, tmp_path: Path) -> None:
    folder = (tmp_path / name_folder(label)).resolve()
    assert folder.parent == tmp_path.resolve()
    assert folder.name != "_rejected"


def test_sorting_asks_for_a_new_folder(tmp_path: Path) -> None:
    check_sort_folder(tmp_path)
    (tmp_path / "kept.png").touch()
    with pytest.raises(UsageError, match="new or an empty folder"):
        check_sort_folder(tmp_path)


def test_json_has_all_rows_and_both_forms_are_refused(run: RunFolder, images: Path) -> None:
    result = CliRunner().invoke(predict, [str(run.path), str(images / "here" / "*_*.png"), "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)) == 20
    result = CliRunner().invoke(predict, [str(run.path), str(images), "--json", "--csv"])
    assert isinstance(result.exception, UsageError)


def test_a_changed_model_is_refused(run: RunFolder, images: Path) -> None:
    content = run.best.weights.read_bytes()
    try:
        run.best.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CorruptFileError, match="must be the file that was kept"):
            predict_files(run, good(images)[:1])
    finally:
        run.best.weights.write_bytes(content)
