"""Checkpoints: training goes on bitwise where it stopped; damage is seen; a crash leaves the old file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep import atomic_files
from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError
from raysweep.run_folder import TrialFolder
from raysweep.tasks.classification.networks import build_fashion_cnn
from raysweep.train import checkpoint
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport
from raysweep.train.state import TrainState, from_tensors, to_tensors
from raysweep.trial_config import TrialConfig

OBJECTIVE = Objective(metric="val/loss", direction="minimize")

RESTORED: list[dict[str, Any]] = [
    *(
        {"optimizer": optimizer, "schedule": schedule, "warmup_epochs": 0.5, "weight_decay": 1e-3}
        for optimizer in ("adam", "adamw", "sgd")
        for schedule in ("none", "cosine", "plateau", "one_cycle")
    ),
    {"schedule": "one_cycle"},
    {"schedule": "cosine", "warmup_epochs": 3.0},  # stopped within the warm-up
    {"schedule": "plateau", "learning_rate": 0.1},  # the validation loss rises: patience counts
    {"ema_decay": 0.9},
    {"dropout": 0.4},
    {"strength": 0.8},
    {"precision": "bf16"},
    {"precision": "auto", "channels_last": False},
    {"gradient_clip_norm": 0.1, "label_smoothing": 0.1, "momentum": 0.5},
    {"early_stopping_patience": 2, "learning_rate": 0.05},
    {"model": "test_resnet", "size": 32},
    {
        "model": "test_resnet",
        "size": 32,
        "head": "report",
        "ema_decay": 0.8,
        "dropout": 0.2,
        "strength": 0.5,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "backbone_factor": 0.1,
    },
    {"model": "test_resnet", "size": 32, "backbone_factor": 0.0, "freeze_batch_norm": True},
    {"model": "test_resnet", "size": 32, "precision": "bf16", "optimizer": "sgd", "schedule": "one_cycle"},
]


class StoppedError(Exception):
    """The process ends here."""


def describe(values: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in values.items())


def flatten(state: TrainState) -> tuple[dict[str, torch.Tensor], Any]:
    """All tensors and plain values of a state, without the only thing that depends on the clock."""
    values = state.state_dict()
    values["counters"]["history"] = [
        {key: value for key, value in row.items() if key not in OF_MACHINES} for row in state.history
    ]
    tensors: dict[str, torch.Tensor] = {}
    plain = to_tensors(values, tensors)
    return tensors, plain


@pytest.mark.parametrize("values", RESTORED, ids=describe)
def test_restored_training_is_the_same_training(
    values: dict[str, Any],
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
) -> None:
    data = make_data(num_train=21, num_val=10, size=values.get("size", 12))
    config = make_config(**values)

    def stop(epoch: EpochReport) -> None:
        if epoch.metrics["epoch"] == 2:
            raise StoppedError

    whole = fit(config, data, OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        fit(config, data, OBJECTIVE, report=stop, folder=TrialFolder(tmp_path / "parts"))
    torch.rand(17)  # another process: other randomness
    rest: list[float] = []
    parts = fit(
        config,
        data,
        OBJECTIVE,
        report=lambda epoch: rest.append(epoch.metrics["epoch"]),
        folder=TrialFolder(tmp_path / "parts"),
        resume=True,
    )
    assert rest == [row["epoch"] for row in whole.history[2:]]
    tensors, plain = flatten(whole)
    restored_tensors, restored_plain = flatten(parts)
    assert restored_tensors.keys() == tensors.keys()
    assert [name for name, value in tensors.items() if not torch.equal(value, restored_tensors[name])] == []
    assert restored_plain == plain
    for name in ("best/model.safetensors", "last/checkpoint.safetensors"):
        expected, _ = checkpoint.load_tensors(tmp_path / "whole" / name)
        found, _ = checkpoint.load_tensors(tmp_path / "parts" / name)
        assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_a_state_is_restored_completely(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    """Optimizer and schedule states that were never stepped survive too."""
    data = make_data(num_train=8, num_val=4)
    config = make_config(epochs=1, schedule="plateau", ema_decay=0.5)
    state = fit(config, data, OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(tmp_path / "a"))
    again = fit(config, data, OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(tmp_path / "a"), resume=True)
    tensors, plain = flatten(state)
    restored_tensors, restored_plain = flatten(again)
    assert all(torch.equal(value, restored_tensors[name]) for name, value in tensors.items())
    assert plain == restored_plain


def test_nothing_is_pickled(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    fit(
        make_config(epochs=1), make_data(), OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(tmp_path / "trial")
    )
    found = sorted(str(path.relative_to(tmp_path / "trial")) for path in (tmp_path / "trial").rglob("*.*"))
    assert found == ["best/model.safetensors", "last/checkpoint.safetensors", "metrics.jsonl"]


KINDS = {
    "float32": torch.randn(3, 4),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.randn(3, 4).T,
    "0-dim": torch.tensor(7.0),
    "0-dim int64": torch.tensor(2**40 + 1),
    "int64": torch.arange(5),
    "bool": torch.tensor([True, False]),
    "bf16": torch.randn(6).bfloat16(),
    "float64": torch.randn(2, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "nan": torch.tensor([float("nan"), float("inf")]),
    "requires grad": torch.randn(2, requires_grad=True),
}


def test_tensors_of_all_kinds_survive(tmp_path: Path) -> None:
    shared = torch.randn(8)
    tensors = {**KINDS, "shared": shared, "the same": shared, "a view": shared[2:4]}
    facts = {"epoch": 3, "none": None, "inf": float("inf"), "text": "ü", "list": [1, 2.5]}
    checkpoint.save_tensors(tmp_path / "x.safetensors", tensors, facts)
    loaded, read = checkpoint.load_tensors(tmp_path / "x.safetensors")
    assert read == facts
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        assert torch.equal(loaded[name].nan_to_num(), value.detach().nan_to_num())
    assert list(tmp_path.iterdir()) == [tmp_path / "x.safetensors"]


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(torch.tensor(1.5)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tensor", "items", "a", ""]) | st.integers(0, 5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(nested)
@settings(max_examples=200, deadline=None)
def test_nested_states_survive(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    assert from_tensors(to_tensors(value, tensors), tensors) == value


def test_weights_with_facts(tmp_path: Path) -> None:
    modules = {
        name: build_fashion_cnn(dropout=0, batch_norm=False, num_classes=2, channels=1, image_size=8)
        for name in ("model", "model2")
    }
    checkpoint.save_weights(tmp_path / "w.safetensors", dict(modules), {"epoch": 2, "value": 0.5})
    fresh = {
        name: build_fashion_cnn(dropout=0, batch_norm=False, num_classes=2, channels=1, image_size=8)
        for name in modules
    }
    assert checkpoint.load_weights(tmp_path / "w.safetensors", dict(fresh)) == {"epoch": 2, "value": 0.5}
    for name, module in modules.items():
        assert all(torch.equal(value, fresh[name].state_dict()[key]) for key, value in module.state_dict().items())


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    checkpoint.save_tensors(path, {"a": torch.arange(4.0), "b": torch.tensor(1)}, {"epoch": 1})
    return path


def test_every_flipped_bit_is_seen(stored: Path) -> None:
    """In the length, the header, the facts, the digest or a tensor: damage, and never another error."""
    content = stored.read_bytes()
    tensors, facts = checkpoint.load_tensors(stored)
    seen = 0
    for place in range(len(content)):
        for bit in (0, 3, 7):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            stored.write_bytes(changed)
            try:
                loaded, read = checkpoint.load_tensors(stored)
            except CorruptFileError:
                seen += 1
            else:  # only where nothing was lost
                assert read == facts
                assert loaded.keys() == tensors.keys()
                assert all(torch.equal(loaded[name], value) for name, value in tensors.items())
    assert seen > 2 * len(content)


def test_a_byte_of_a_tensor_is_named_as_a_digest(stored: Path) -> None:
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(CorruptFileError, match="does not match its digest"):
        checkpoint.load_tensors(stored)


def test_tampered_facts(stored: Path) -> None:
    content = stored.read_bytes()
    assert content.count(rb"\"epoch\": 1") == 1
    stored.write_bytes(content.replace(rb"\"epoch\": 1", rb"\"epoch\": 2"))
    with pytest.raises(CorruptFileError, match=f"{stored} does not match its digest"):
        checkpoint.load_tensors(stored)


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(CorruptFileError, match="does not match its digest"):
        checkpoint.load_tensors(tmp_path / "plain.safetensors")


def test_truncated_files(stored: Path) -> None:
    content = stored.read_bytes()
    for length in range(len(content)):
        stored.write_bytes(content[:length])
        with pytest.raises(CorruptFileError, match=str(stored)):
            checkpoint.load_tensors(stored)


def test_a_crash_while_writing_leaves_the_old_file(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise StoppedError

    monkeypatch.setattr(checkpoint, "save_file", write_half)
    with pytest.raises(StoppedError):
        checkpoint.save_tensors(stored, {"a": torch.zeros(1)}, {"epoch": 2})
    _, facts = checkpoint.load_tensors(stored)
    assert facts == {"epoch": 1}
    assert list(stored.parent.iterdir()) == [stored]


def test_a_crash_before_the_first_file_leaves_none(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_text("half")
        raise StoppedError

    with pytest.raises(StoppedError):
        atomic_files.write_atomically(tmp_path / "new" / "file.json", write)
    assert list((tmp_path / "new").iterdir()) == []
