"""Fits pretrained weights to a network: by name, or in order where only names differ."""

import functools
import sys
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from raysweep.errors import UsageError

COUNTER = "num_batches_tracked"
"""Batch norm's count of steps, which older files lack; nothing is computed from it here."""
MAX_NAMED = 4
"""Tensors that a message names of each fault."""


def fit_weights(
    network: nn.Module, given: Mapping[str, torch.Tensor], *, classifiers: Iterable[str], channels: int, origin: str
) -> None:
    """Loads weights into a network; those of its classifier only where they are of as many classes.

    classifiers: modules of the network, or of the one the weights are of, that give logits. A first convolution of
    colour images is adapted to `channels`, as timm does it. Names may differ where all shapes agree in order, which is
    said on stderr.

    Raises:
        UsageError: they do not fit; the message names the tensors.
    """
    wanted = network.state_dict()
    heads = set(classifiers)
    needed = {
        name: value for name, value in wanted.items() if name.rpartition(".")[0] not in heads and not _counts(name)
    }
    body = {name: value for name, value in given.items() if name.rpartition(".")[0] not in heads and not _counts(name)}
    head = {name: value for name, value in given.items() if name in wanted and wanted[name].shape == value.shape}
    body = _adapt_input(body, needed, channels)
    if body.keys() != needed.keys() and (renamed := _match_order(body, needed)) is not None:
        _say(f"note: no names of {origin} are those of the network; its tensors fit in order, and are loaded so")
        body, head = renamed, {}
    if faults := _find_faults(body, needed):
        raise UsageError(
            f"the weights {origin} do not fit the network: {'; '.join(faults)}. Give weights of this network, or the "
            "network that they are of by --set task.model=NAME"
        )
    network.load_state_dict({**head, **body}, strict=False)


def _counts(name: str) -> bool:
    return name.endswith(COUNTER)


def _adapt_input(
    given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor], channels: int
) -> dict[str, torch.Tensor]:
    """Adapts the first convolution of colour images where the network is for another number of channels."""
    first = next((name for name, value in given.items() if value.ndim == 4), None)
    if first is None or channels == 3 or given[first].shape[1] != 3:
        return dict(given)
    shapes = [value.shape for value in needed.values() if value.ndim == 4]
    if not shapes or shapes[0] != (given[first].shape[0], channels, *given[first].shape[2:]):
        return dict(given)
    from timm.models import adapt_input_conv

    return {**given, first: adapt_input_conv(channels, given[first])}


def _match_order(
    given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """Renames tensors that fit in order, a classifier (weight, bias) at the end aside; none: they do not fit so."""
    values = [value for value in given.values() if value.ndim or value.is_floating_point()]  # no counters
    if len(values) == len(needed) + 2 and values[-2].ndim == 2 and values[-1].shape == values[-2].shape[:1]:
        values = values[:-2]
    if given.keys() & needed.keys() or [value.shape for value in values] != [value.shape for value in needed.values()]:
        return None
    return dict(zip(needed, values, strict=True))


def _find_faults(given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor]) -> list[str]:
    """Describes which tensors are of another shape, missing or of no use."""
    shapes = [
        f"{name} must be {tuple(value.shape)}, got {tuple(given[name].shape)}"
        for name, value in needed.items()
        if name in given and given[name].shape != value.shape
    ]
    missing = [f"no {name} {tuple(value.shape)}" for name, value in needed.items() if name not in given]
    more = [f"{name} {tuple(value.shape)} is of no use" for name, value in given.items() if name not in needed]
    return [
        f"{', '.join(faults[:MAX_NAMED])}{f' and {len(faults) - MAX_NAMED} more' if len(faults) > MAX_NAMED else ''}"
        for faults in (shapes, missing, more)
        if faults
    ]


@functools.cache
def _say(note: str) -> None:
    """Prints a note on stderr, once in a process."""
    print(note, file=sys.stderr)
