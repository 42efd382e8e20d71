"""Exports compute what the model computes: ONNX by onnxruntime, standalone folders without raysweep, generators."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.decode import decode_image
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError, ExportError, UsageError
from raysweep.evaluate.stored_model import load_best
from raysweep.export import packages, standalone
from raysweep.export.onnx_file import open_onnx, write_onnx
from raysweep.export.parity import draw_inputs, measure_parity
from raysweep.export.run import build_graph, export_run
from raysweep.predict import predict_files
from raysweep.run_folder import RunFolder
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.rejection.detector import Detector, find_threshold
from raysweep.tasks.classification.rejection.features import Features, extract_from_set
from raysweep.tasks.classification.rejection.fitting import FitData, Score, TensorScore
from raysweep.tasks.classification.rejection.scores import SCORES
from raysweep.tasks.gan.config import GanConfig
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("Kleid ä", "bag", "coat", "shoe")
BLOCKED = "raysweep, timm, torchvision, ray, numpy, scipy, sklearn, safetensors, onnx, onnxruntime"
WITHOUT_RAYSWEEP = f"""
import runpy, sys
from importlib.machinery import PathFinder
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {set(BLOCKED.split(", "))!r}
        return None if hidden else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
) -> PreparedData:
    splits = {"train": draw_squares(120, 1), "val": draw_squares(60, 2)}
    return save_prepared(tmp_path_factory.mktemp("data"), splits, CLASSES)


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, data: PreparedData, keep_model: Callable[..., RunFolder]
) -> RunFolder:
    config = TrialConfig(
        task=ClassificationConfig(model="fashion_cnn", learning_rate=2e-3),
        data=DataConfig(image_size=24, cache_size=28, channels=1, normalization="symmetric"),
        training=TrainingConfig(epochs=3, batch_size=20, precision="bf16"),
    )
    return keep_model(tmp_path_factory.mktemp("run"), config, data, num_epochs=3)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, draw_squares: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, image in enumerate(draw_squares(30, 3)[0]):
        Image.fromarray(image[:, :, 0].astype(np.uint8)).resize((28 + index, 40)).save(folder / f"{index:02d}.png")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


@pytest.fixture(scope="module")
def exported(run: RunFolder, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("onnx") / "model.onnx"
    done = export_run(run, output=output, images=[images])
    assert done.parity.num_rows == 31
    return output


@pytest.fixture(scope="module")
def alone(run: RunFolder, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "folder"
    export_run(run, form="standalone", output=output, images=[images])
    return output


def run_alone(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process that cannot import raysweep, nor anything but torch and Pillow that it needs."""
    command = [sys.executable, "-I", "-c", WITHOUT_RAYSWEEP, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_an_onnx_file_gives_label_confidence_and_rejection(run: RunFolder, exported: Path, images: Path) -> None:
    compute, files = open_onnx(exported), sorted(images.glob("*.png"))
    fp32 = {row["image"]: row for row in predict_files(run, files)}
    for path in files:
        pixels = np.asarray(Image.open(path))[None, :, :, None]  # of its own size: the graph resizes
        said, row = compute({"images": pixels}), fp32[str(path)]
        assert said["label"][0] == CLASSES[said["index"][0]]
        assert said["probabilities"].shape == (1, 4)
        # predict computes in bf16 as the run does, and resizes by itself
        assert said["confidence"][0] == pytest.approx(row["confidence"], abs=0.05)
        assert said["label"][0] == row["label"] or row["confidence"] < 0.6
    assert not compute({"images": np.asarray(Image.open(images / "noise.png"))[None, :, :, None]})["accepted"][0]
    assert predict_files(run, [images / "noise.png"])[0]["rejected"]


def test_an_onnx_file_says_what_it_is(exported: Path, data: PreparedData) -> None:
    proto = onnx.load(exported)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert facts["data_digest"] == data.info.digest
    assert "EXIF" in facts["usage"]
    assert [output.name for output in proto.graph.output][:3] == ["label", "index", "confidence"]
    assert [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim][3] == 1


@pytest.mark.parametrize("shape", [(28, 28), (50, 31), (9, 90)])
def test_the_graph_resizes_as_pillow_does(run: RunFolder, exported: Path, shape: tuple[int, int]) -> None:
    """To a level, as Pillow rounds between its two passes: the same for the model with a level of noise."""
    draw = np.random.default_rng(0)
    smooth = Image.fromarray(draw.integers(0, 256, (6, 6), dtype=np.uint8)).resize(
        shape[::-1], Image.Resampling.BICUBIC
    )
    small = np.asarray(smooth.resize((28, 28), Image.Resampling.BILINEAR))
    compute = open_onnx(exported)
    left = compute({"images": np.asarray(smooth)[None, :, :, None]})
    right = compute({"images": small[None, :, :, None]})
    assert np.abs(left["probabilities"] - right["probabilities"]).max() < 0.02


@dataclass(frozen=True)
class AllScores(TensorScore):
    """Every score, less its threshold and by its deviation, side by side: one graph instead of one each."""

    fitted: list[Score]
    limits: list[tuple[float, float]]

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N, number of scores)."""
        pairs = zip(self.fitted, self.limits, strict=True)
        return torch.stack([(each.score(features) - limit) / unit for each, (limit, unit) in pairs], dim=1)

    @classmethod
    def fit(cls, data: FitData) -> Self:
        fitted: list[Score] = [data.fit(kind) for kind in SCORES.values()]
        scores = [each.score(data.val) for each in fitted]
        return cls(fitted, [(find_threshold(score), float(score.std())) for score in scores])


def test_every_score_has_a_form_in_onnx(
    run: RunFolder, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_best(run, torch.device("cpu"))
    train, val = (extract_from_set(model, part, np.arange(len(part))) for part in (data.train, data.val))
    network: Any = model.modules["model"]
    fit_data = FitData(train=train, labels=torch.from_numpy(data.train.labels), val=val, last=network.last_linear)
    detector = Detector("all", AllScores.fit(fit_data), 0.0, {})
    monkeypatch.setattr(Detector, "load", staticmethod(lambda path, model: detector))
    graph = build_graph(model, run)
    write_onnx(tmp_path / "model.onnx", graph, {})
    images = {"images": data.val.gather(np.arange(60))}
    compute = open_onnx(tmp_path / "model.onnx")
    assert compute(images)["score"].shape == (60, len(SCORES))
    assert measure_parity(graph, compute, images).largest["score"] < 0.01


def test_an_export_that_computes_something_else_is_not_kept(
    run: RunFolder, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "before").mkdir()

    def disturb(folder: Path, graph: Any) -> Any:
        graph.module.labeller.network.head[-1].bias.data[0] += 100
        return compute(folder, graph)

    compute = standalone.open_standalone
    monkeypatch.setattr(standalone, "open_standalone", disturb)
    with pytest.raises(ExportError, match=r"a difference of .* in (index|confidence)"):
        export_run(run, form="standalone", output=tmp_path / "folder", images=[images])
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_a_standalone_folder_needs_torch_and_pillow_only(run: RunFolder, alone: Path, images: Path) -> None:
    assert sorted(path.name for path in alone.iterdir()) == ["model.json", "model.pt2", "predict.py"]
    (images / "bad.png").write_text("no image")
    try:
        process = run_alone(alone / "predict.py", images, "--json")
    finally:
        (images / "bad.png").unlink()
    assert process.returncode == 1, process.stderr
    rows = {row["image"]: row for row in json.loads(process.stdout)}
    assert "error" in rows.pop(str(images / "bad.png"))
    own = predict_files(run, sorted(images.glob("*.png")))
    assert set(rows) == {row["image"] for row in own}
    for row in own:  # own is in bf16
        assert rows[row["image"]]["confidence"] == pytest.approx(row["confidence"], abs=0.05)
    assert rows[str(images / "noise.png")]["rejected"]
    process = run_alone(alone / "predict.py", images / "noise.png")
    assert (process.returncode, process.stdout.strip()) == (0, f"{images / 'noise.png'}: rejected: none of the classes")


def save_odd_images(folder: Path) -> None:
    """Writes images of every mode that decoding treats on its own."""
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (70, 100, 3), dtype=np.uint8)).resize((900, 700))
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(folder / "turned.jpg", exif=exif, quality=90)
    colour.save(folder / "colour.png")
    colour.convert("L").save(folder / "grey.jpg")
    colour.convert("P").save(folder / "palette.png")
    colour.convert("1").save(folder / "bits.png")
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    see_through = colour.convert("RGBA")
    see_through.putalpha(Image.fromarray(draw.integers(0, 256, (700, 900), dtype=np.uint8)))
    see_through.save(folder / "alpha.png")
    Image.fromarray(draw.integers(0, 65536, (30, 40)).astype(np.uint16)).save(folder / "deep.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_standalone_program_decodes_as_raysweep_does(alone: Path, tmp_path: Path, channels: int) -> None:
    program = tmp_path / "program"
    program.mkdir()
    for path in alone.iterdir():
        if path.suffix != ".pt2":
            (program / path.name).write_bytes(path.read_bytes())
    facts = json.loads((alone / "model.json").read_text())
    (program / "model.json").write_text(json.dumps({**facts, "channels": channels}))
    images = tmp_path / "images"
    images.mkdir()
    save_odd_images(images)
    script = f"import sys; sys.path.insert(0, {str(program)!r})\n" + (
        "import json, pathlib, predict\n"
        f"files = sorted(pathlib.Path({str(images)!r}).iterdir())\n"
        "print(json.dumps({str(path): predict.read_image(path).flatten().tolist() for path in files}))"
    )
    process = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for path, values in json.loads(process.stdout).items():
        expected = decode_image(Path(path).read_bytes(), size=28, channels=channels)  # type: ignore[arg-type]
        assert np.array_equal(np.array(values, dtype=np.uint8).reshape(expected.shape), expected), path


def test_a_standalone_folder_replaces_an_earlier_one_only(run: RunFolder, alone: Path, images: Path) -> None:
    export_run(run, form="standalone", output=alone, images=[images])
    with pytest.raises(UsageError, match="new or an empty folder"):
        export_run(run, form="standalone", output=images, images=[images])


def make_generator(task: Any, normalization: str) -> TrialConfig:
    return TrialConfig(
        task=task,
        data=DataConfig(image_size=28, channels=1, normalization=normalization),  # type: ignore[arg-type]
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    )


GENERATORS = {
    "gan": make_generator(GanConfig(network="dense", latent_size=8), "symmetric"),
    "conditional": make_generator(GanConfig(network="dcgan", latent_size=8, conditional=True), "symmetric"),
    "vae": make_generator(AutoencoderConfig(variant="variational", bottleneck="dense", latent_size=4), "unit"),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_makes_images_of_noise(
    name: str, data: PreparedData, keep_model: Callable[..., RunFolder], tmp_path: Path
) -> None:
    config = GENERATORS[name]
    run = keep_model(tmp_path / "run", config, data)
    done = export_run(run)
    assert done.path == run.path / "export" / "model.onnx"
    graph = build_graph(load_best(run, torch.device("cpu")), run)
    inputs = draw_inputs(graph, 5)
    assert set(inputs) == ({"noise", "labels"} if name == "conditional" else {"noise"})
    made = open_onnx(done.path)(inputs)["images"]
    assert made.shape == (5, 28, 28, 1)
    assert made.dtype == np.uint8
    assert len({image.tobytes() for image in made}) == 5
    folder = export_run(run, form="standalone").path
    process = run_alone(folder / "generate.py", tmp_path / "made", "--count", "3", "--seed", "4")
    assert process.returncode == 0, process.stderr
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "made").glob("*.png"))]
    noise = torch.randn(3, graph.inputs["noise"].shape[1], generator=torch.Generator().manual_seed(4))
    own = graph.module(noise, torch.arange(3)) if name == "conditional" else graph.module(noise)
    assert np.abs(np.stack(pictures).astype(int) - own[0][..., 0].numpy()).max() <= 1


def test_a_plain_autoencoder_generates_nothing(
    data: PreparedData, keep_model: Callable[..., RunFolder], tmp_path: Path
) -> None:
    run = keep_model(tmp_path / "run", make_generator(AutoencoderConfig(), "unit"), data)
    with pytest.raises(UsageError, match=r"task\.variant=variational, got a plain one"):
        export_run(run, form="standalone")


def test_a_task_without_a_graph_says_so(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_best(run, torch.device("cpu"))
    monkeypatch.setattr(type(model.config.task), "graph", None)
    with pytest.raises(UsageError, match="exports no model"):
        build_graph(model, run)


def test_a_changed_model_is_not_exported(run: RunFolder, images: Path, tmp_path: Path) -> None:
    content = run.best.detector.read_bytes()
    try:
        run.best.detector.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CorruptFileError, match="must be the file that was kept"):
            export_run(run, form="standalone", output=tmp_path / "folder", images=[images])
    finally:
        run.best.detector.write_bytes(content)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", ("onnx_of_nobody",))
    with pytest.raises(UsageError, match=r"onnx_of_nobody cannot be imported: pip install 'raysweep\[export\]'"):
        packages.check_installed()


def test_a_graph_without_a_detector_accepts_all(
    run: RunFolder, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As runs from before there were detectors."""
    hidden = run.best.detector.read_bytes()
    digest = run.best.digest.read_bytes()
    run.best.detector.unlink()
    run.best.digest.unlink()
    try:
        done = export_run(run, form="standalone", output=tmp_path / "folder", images=[images])
        assert np.isfinite(list(done.parity.largest.values())).all()
        process = run_alone(done.path / "predict.py", images / "noise.png", "--json")
        (row,) = json.loads(process.stdout)
        assert (row["rejected"], row["score"]) == (False, None)
    finally:
        run.best.detector.write_bytes(hidden)
        run.best.digest.write_bytes(digest)
