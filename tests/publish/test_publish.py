"""Publishing: the card's figures, what never leaves the machine, and a push against a stand-in of the hub's API."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]

from raysweep import own_code
from raysweep.cluster.capacity import Node
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError, RefusedFileError, UsageError
from raysweep.evaluate.stored_model import import_code, load_best
from raysweep.evaluate.test_figures import TestFigures
from raysweep.kept_model import seal_model
from raysweep.publish.card import compute_interval, name_data
from raysweep.publish.run import _without_folder, _without_paths, publish_run
from raysweep.run_folder import RunFolder
from raysweep.search.results import Machine, Results, save_results
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import TrialResult

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_of_the_test"


@dataclass
class Hub:
    """What a stand-in of the hub was told."""

    endpoint: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by their SHA-256."""
    requests: list[str] = field(default_factory=list)


def make_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_GET(self) -> None:
            hub.requests.append(self.path)
            self.answer({"id": "me/cars", "siblings": [], "sha": "0" * 40})

        def do_PUT(self) -> None:
            content = self.body()
            hub.objects[hashlib.sha256(content).hexdigest()] = content
            self.answer({})

        def do_POST(self) -> None:
            hub.requests.append(self.path)
            body = self.body()
            if not self.path.startswith("/store") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer({"error": "Invalid username or password."}, 401)
            elif self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self.answer({"url": f"{hub.endpoint}/me/cars", "name": "me/cars"})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                self.answer(
                    {"files": [{**file, "uploadMode": mode(file["path"]), "shouldIgnore": False} for file in files]}
                )
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                upload = [
                    {**one, "actions": {"upload": {"href": f"{hub.endpoint}/store/{one['oid']}"}}} for one in objects
                ]
                self.answer({"transfer": "basic", "objects": upload})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    take(hub, line["key"], line["value"])
                self.answer({"commitUrl": f"{hub.endpoint}/me/cars/commit/1", "commitOid": "1", "success": True})
            else:
                self.answer({})

    return Handler


def mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


def take(hub: Hub, kind: str, value: dict[str, Any]) -> None:
    if kind == "file":
        hub.files[value["path"]] = base64.b64decode(value["content"])
    elif kind == "lfsFile":
        hub.files[value["path"]] = hub.objects[value["oid"]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    told = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(told))
    told.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
    keep_model: Callable[..., RunFolder],
) -> RunFolder:
    """A finished run on a folder of somebody's own, whose place is in its configuration and results."""
    splits = {"train": draw_squares(60, 1), "val": draw_squares(40, 2)}
    prepared = save_prepared(tmp_path_factory.mktemp("data"), splits, ("a", "b", "c", "d"))
    info = prepared.info
    for name, value in {"source": "/home/secret/photos", "synthetic": False, "num_test": 50}.items():
        object.__setattr__(info, name, value)
    config = TrialConfig(
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(source="/home/secret/photos", image_size=28, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    )
    folder = keep_model(tmp_path_factory.mktemp("run"), config, prepared)
    trial = TrialResult(number=0, state="COMPLETE", value=0.9, best_epoch=1, params={}, duration_s=1.0)
    figures = {
        "accuracy": 0.9,
        "macro_f1": 0.88,
        "rejection": {"accepted": {"share": 0.95}, "sets": {"uniform noise": {"auroc": 0.97}}},
    }
    test = TestFigures(
        num_images=50,
        report="classification_report.txt",
        headline="test accuracy 0.9000, 50 images of /home/secret/photos",
        lift={"text": "+0.1000 accuracy over the baseline (95 % interval +0.0200 to +0.1800, n = 50 test images)"},
        own=figures,
    )
    results = Results(
        study="my_cars",
        objective=Objective(metric="val/accuracy"),
        trials=(trial,),
        best=trial,
        baseline=trial,
        test=test,
        data=info,
        machine=Machine.describe([Node(num_cpus=1, num_gpus=0, memory_bytes=1)]),
        duration_s=1.0,
    )
    save_results(folder, results)
    return folder


def read_card(text: str) -> tuple[dict[str, Any], str]:
    _, header, rest = text.split("---\n", 2)
    return yaml.safe_load(header), rest


def test_the_card_states_figures_with_interval_lift_digest_and_limits(run: RunFolder, tmp_path: Path) -> None:
    publish_run(run, str(tmp_path / "out"), license_name="cc0-1.0")
    header, text = read_card((tmp_path / "out" / "README.md").read_text())
    assert (header["pipeline_tag"], header["license"]) == ("image-classification", "cc0-1.0")
    (result,) = header["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"accuracy": 0.9, "f1": 0.88}
    assert "| accuracy | 0.9000 | 0.7864 to 0.9565 |" in text  # Wilson's, n = 50
    assert "95 % interval +0.0200 to +0.1800" in text
    assert f"`{'0' * 64}`" in text
    assert "uniform noise 0.970" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Intended use", "## Test", "## Limits", "## Data", "## Use it",
    ]  # fmt: skip


def test_a_published_folder_is_a_model_without_the_place_of_the_images(run: RunFolder, tmp_path: Path) -> None:
    publish_run(run, str(tmp_path / "out"))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [
        "README.md", "config.json", "detector.safetensors", "digest.json", "model.safetensors",
    ]  # fmt: skip
    assert not [path for path in files if b"secret" in path.read_bytes()]
    original, copy = (load_best(folder, torch.device("cpu")) for folder in (run, RunFolder(tmp_path / "out")))
    assert copy.config.data.source == copy.info.source == "photos"
    for name, value in original.modules["model"].state_dict().items():
        assert torch.equal(value, copy.modules["model"].state_dict()[name])
    assert "No licence is given" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/me/cars", "cars"),
        ("kaggle:me/cars", "kaggle:me/cars"),
        ("s3://bucket/deep/cars", "cars"),
        ("/home/me/sources.py:Cars", "Cars"),
        ("sample (synthetic)", "sample (synthetic)"),
    ],
)
def test_data_are_named_without_their_place(source: str, name: str) -> None:
    assert name_data(source) == name


def test_the_interval_is_wilson_s() -> None:
    """Newcombe 1998, table I: 81 of 263."""
    assert compute_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize("to", ["hf:", "hf:cars", "hf:me/cars/more", "hf:me/ca rs", "hf:../cars"])
def test_a_repository_has_owner_and_name(run: RunFolder, to: str) -> None:
    with pytest.raises(UsageError, match="owner and name"):
        publish_run(run, to)


def test_a_folder_with_content_is_refused(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="new or an empty folder"):
        publish_run(run, str(tmp_path))
    with pytest.raises(UsageError, match="--public is of a repository"):
        publish_run(run, str(tmp_path / "new"), public=True)


NETWORK = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, num_classes, in_channels):
        super().__init__(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, num_classes))
"""


def test_code_of_ones_own_goes_along_without_its_place(
    run: RunFolder,
    tmp_path: Path,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
    keep_model: Callable[..., RunFolder],
) -> None:
    file = tmp_path / "secret" / "nets.py"
    file.parent.mkdir()
    file.write_text(NETWORK)
    own_code.trust([f"{file}:Small"])
    task = ClassificationConfig(model=f"{file}:Small")
    task = replace(task, code=task.fetch(tmp_path)["code"])
    config = TrialConfig(
        task=task,
        data=DataConfig(source="mine", image_size=28, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    )
    splits = {"train": draw_squares(40, 1), "val": draw_squares(40, 2)}
    own = keep_model(tmp_path / "run", config, save_prepared(tmp_path / "data", splits, ("a", "b", "c", "d")))
    code = own.best.code(file.name, task.code[str(file)])
    code.parent.mkdir()
    shutil.copy(file, code)
    seal_model(own.best)
    shutil.copy(run.results, own.results)
    public = RunFolder(Path(publish_run(own, str(tmp_path / "public")).place))
    for path in (public.best.config, public.best.digest, public.path / "README.md"):
        assert "secret" not in path.read_text()
    with pytest.raises(RefusedFileError, match=r"code of somebody's own, nets\.py:Small"):
        load_best(public, torch.device("cpu"))
    import_code(public)
    before, after = (load_best(folder, torch.device("cpu")).modules["model"].state_dict() for folder in (own, public))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("task", "published"),
    [
        (
            {"model": "/a/net.py:Net", "pretrained": "hf-hub:me/net"},
            {"model": "net.py:Net", "pretrained": "hf-hub:me/net"},
        ),
        ({"pretrained": "/home/me/w.pth"}, {"pretrained": "w.pth"}),
        ({"model_args": {"norm": "a/b", "files": ["/home/me/x"]}}, {"model_args": {"norm": "a/b", "files": ["x"]}}),
    ],
)
def test_absolute_paths_lose_their_folders_and_nothing_else_changes(
    task: dict[str, Any], published: dict[str, Any]
) -> None:
    assert _without_folder(task) == published


def test_two_files_of_one_name_are_not_mixed_up() -> None:
    task = ClassificationConfig(code={"/a/net.py": "1", "/b/net.py": "2"})
    with pytest.raises(UsageError, match=r"must have different names, got /a/net\.py, /b/net\.py"):
        _without_paths(task)


def test_a_changed_model_is_not_published(run: RunFolder, tmp_path: Path) -> None:
    content = run.best.weights.read_bytes()
    try:
        run.best.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CorruptFileError, match="must be the file that was kept"):
            publish_run(run, str(tmp_path / "out"))
    finally:
        run.best.weights.write_bytes(content)


def publish(run: RunFolder, hub: Hub, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client reads its endpoint when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "platform.publish", str(run.path), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_push_brings_all_files_to_a_private_repository(run: RunFolder, hub: Hub, tmp_path: Path) -> None:
    process = publish(run, hub, "--to", "hf:me/cars")
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == f"{hub.endpoint}/me/cars/commit/1"
    (created,) = hub.created
    assert (created["name"], created["organization"]) == ("cars", "me")
    assert created.get("private") is True or created.get("visibility") == "private"
    for name, content in hub.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert load_best(RunFolder(tmp_path), torch.device("cpu")).info.classes == ("a", "b", "c", "d")
    assert b"model-index" in hub.files["README.md"]


def test_nothing_is_sent_without_hf_and_a_refusal_is_one_sentence(run: RunFolder, hub: Hub, tmp_path: Path) -> None:
    process = publish(run, hub, "--to", str(tmp_path / "out"))
    assert process.returncode == 0, process.stderr
    assert hub.requests == []
    process = publish(run, hub, "--to", "hf:me/cars", token="hf_wrong")
    assert process.returncode == 1
    assert process.stderr.startswith(f"error: {hub.endpoint} does not take me/cars: ")
    assert "Traceback" not in process.stderr
    assert hub.files == {}
