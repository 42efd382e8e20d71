"""Number formats and CPU settings of the process that trains."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

from raysweep.cores import keep_freed_memory

Precision = Literal["auto", "fp32", "bf16"]
TF32_BACKENDS: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
"""What decides about TF32, in matrix products and in convolutions."""


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Resolves `auto` on this device: bf16 where it is computed natively, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("amx_bf16") or capabilities.get("amx_tile") or capabilities.get("avx512_bf16")
    return "bf16" if native else "fp32"


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Runs the forward pass in the resolved precision; weights, losses and optimizers stay fp32."""
    if resolve_precision(precision, device) == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextlib.contextmanager
def ieee_fp32(device: torch.device) -> Iterator[None]:
    """Computes what is fp32 as IEEE 754 has it, on every device: without autocast, and without TF32."""
    allowed = [backend.allow_tf32 for backend in TF32_BACKENDS]
    forbid_tf32()
    try:
        with torch.autocast(device.type, enabled=False) if may_autocast(device) else contextlib.nullcontext():
            yield
    finally:
        for backend, allow in zip(TF32_BACKENDS, allowed, strict=True):
            backend.allow_tf32 = allow


def may_autocast(device: torch.device) -> bool:
    """Tells whether the device has autocast: `meta` has not."""
    return bool(torch.amp.is_autocast_available(device.type))


def forbid_tf32() -> None:
    """Has CUDA compute fp32 as IEEE 754 has it: each card that has TF32 has bf16 too, which `auto` takes."""
    for backend in TF32_BACKENDS:
        backend.allow_tf32 = False


def prepare_process(num_threads: int) -> None:
    """Sets how this process computes: `num_threads` of CPU for torch, fp32 as IEEE 754 has it, the fastest algorithms.

    Denormal numbers are flushed to zero: they cost two thirds of the speed after some epochs with Adam and weight
    decay; results do not change. cuDNN's algorithms are timed for each new shape of a batch.
    """
    torch.set_num_threads(max(1, num_threads))
    torch.set_flush_denormal(True)
    keep_freed_memory()
    forbid_tf32()
    torch.backends.cudnn.benchmark = True


def arrange(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Lays images (B, C, H, W) out in memory as the networks have them."""
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
