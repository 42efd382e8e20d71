"""Number formats, and what the process that trains sets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from raysweep.train.precision import Precision, autocast, forbid_tf32, ieee_fp32, prepare_process, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("device", [CPU, torch.device("cuda")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_named_precision_is_taken(precision: Precision, device: torch.device) -> None:
    assert resolve_precision(precision, device) == precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, "fp32"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ],
)
def test_auto_on_a_cpu_asks_for_its_instructions(
    capabilities: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", CPU) == expected


def test_auto_on_this_cpu() -> None:
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_gpu_wants_native_bf16(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    assert resolve_precision("auto", torch.device("cuda")) == ("bf16" if native else "fp32")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_leaves_weights_and_gradients_in_fp32(precision: Precision, dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 2)
    with autocast(precision, CPU):
        output = layer(torch.ones(3, 4))
    assert output.dtype == dtype
    output.float().sum().backward()
    assert layer.weight.dtype == torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(("asked", "expected"), [(2, 2), (1, 1), (0, 1)])
def test_prepare_process(asked: int, expected: int) -> None:
    """In a thread of its own, as a trial has: both settings are a thread's."""

    def probe() -> tuple[int, int, float]:
        prepare_process(asked)
        small = torch.full((200_000,), 1e-39) * 0.5  # large enough for several threads; below float32's normal range
        return torch.get_num_threads(), int(small.count_nonzero()), float(torch.tensor(1e-30) * 0.5)

    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        threads, denormals, normal = pool.submit(probe).result()
    torch.set_num_threads(before)
    assert threads == expected
    assert denormals == 0
    assert normal == pytest.approx(5e-31)
    assert (torch.full((4,), 1e-39) * 0.5).count_nonzero() == 4  # this thread is as it was


@pytest.fixture
def tf32_as_it_was() -> Iterator[None]:
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def test_fp32_is_ieee(tf32_as_it_was: None) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    with ieee_fp32(CPU):
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    forbid_tf32()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_ieee_fp32_ends_autocast_inside_it() -> None:
    layer = nn.Linear(4, 2)
    with autocast("bf16", CPU):
        with ieee_fp32(CPU):
            assert layer(torch.ones(3, 4)).dtype == torch.float32
        assert layer(torch.ones(3, 4)).dtype == torch.bfloat16


@pytest.mark.gpu
def test_fp32_on_a_gpu_is_that_of_the_cpu(tf32_as_it_was: None) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    layer, images = nn.Conv2d(64, 64, 3), torch.randn(8, 64, 32, 32)
    expected = layer(images)
    with ieee_fp32(torch.device("cuda")):
        torch.testing.assert_close(layer.cuda()(images.cuda()).cpu(), expected, rtol=1e-5, atol=1e-5)
