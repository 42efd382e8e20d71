"""Sums over batches and workers, and the metrics that are computed from them: exact under any batch size and sharding.

Formulas and number formats are torchmetrics', which costs each trial's process seconds and hundreds of MB to import.
"""

from collections.abc import Iterable, Mapping, Set

import torch
import torch.distributed

from raysweep.train.history import OF_THE_LOOP

Sums = dict[str, torch.Tensor | list[torch.Tensor]]
"""What is added up with `+`: tensors of one shape as sums, lists of tensors (B, D) by keeping all of them."""


def add_up(parts: Iterable[Sums]) -> Sums:
    """Adds up the sums of batches or of workers; a part may lack names that others have."""
    total: Sums = {}
    for part in parts:
        total |= {name: total[name] + value if name in total else value for name, value in part.items()}  # type: ignore[operator]
    return total


def gather_sums(sums: Sums, num_workers: int) -> Sums:
    """Adds up the sums of all workers, by rank, on each of them; a worker may have seen no batch.

    They travel as objects, on the current device of each process, which its launcher has set: rows of any number.
    """
    if num_workers == 1:
        return sums
    own = {
        name: [part.cpu() for part in value] if isinstance(value, list) else value.cpu() for name, value in sums.items()
    }
    every: list[Sums] = [{} for _ in range(num_workers)]
    torch.distributed.all_gather_object(every, own)
    return add_up(every)


def get_sum(sums: Sums, name: str) -> torch.Tensor:
    """Returns what was added up under a name."""
    value = sums[name]
    assert isinstance(value, torch.Tensor), name
    return value


def get_mean(sums: Sums, name: str) -> torch.Tensor:
    """Returns what was added up under a name over the number of images."""
    return get_sum(sums, name) / get_sum(sums, "num_images")


def read_values(values: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    """Reads single values, those on a device with one wait."""
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    read = torch.stack([value.double() for value in tensors.values()]).tolist() if tensors else []
    return {
        **{name: float(value) for name, value in values.items() if name not in tensors},
        **dict(zip(tensors, read, strict=True)),
    }


def get_batches(sums: Sums, name: str) -> list[torch.Tensor]:
    """Returns what was kept under a name."""
    value = sums[name]
    assert isinstance(value, list), name
    return value


def count_confusions(labels: torch.Tensor, predicted: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Counts the images of each class (row) by predicted class (column): (B,) and (B,) int64 to (C, C) int64."""
    return count_values(labels * num_classes + predicted, num_classes**2).view(num_classes, num_classes)


def count_values(values: torch.Tensor, num_values: int) -> torch.Tensor:
    """Counts how often each of 0..num_values - 1 occurs, (N,) int64 to (num_values,) int64; bincount would wait."""
    counts = torch.zeros(num_values, dtype=torch.int64, device=values.device)
    return counts.scatter_add_(0, values, torch.ones_like(values))


def score_confusions(counts: torch.Tensor) -> dict[str, torch.Tensor]:
    """Computes `accuracy`, `mean_class_accuracy` and `macro_f1`, in 0..1, from confusions (C, C).

    The last two are means over the classes that occur among labels or predictions, as in scikit-learn's macro F1; a
    class that is only predicted counts as 0 in both.
    """
    true = counts.diagonal()
    labelled, predicted = counts.sum(dim=1), counts.sum(dim=0)
    occurs = ((labelled + predicted) > 0).float()
    recall = _divide(true, labelled)
    f1 = _divide(2 * true, labelled + predicted)
    return {
        "accuracy": _divide(true.sum(), labelled.sum()),
        "mean_class_accuracy": _divide(occurs * recall, occurs.sum()).sum(),
        "macro_f1": _divide(occurs * f1, occurs.sum()).sum(),
    }


def _divide(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Divides in float32; 0 where the denominator is 0."""
    quotient = numerator.float() / denominator.float()
    return torch.where(denominator != 0, quotient, 0.0)


def compare_with_declared(declared: Set[str], computed: Mapping[str, float]) -> str | None:
    """Says which metrics are declared but not computed or computed but not declared; none: they agree."""
    found = {name for name in computed if name.startswith(("train/", "val/"))} - OF_THE_LOOP
    complaints = [
        f"{what}: {', '.join(sorted(names))}"
        for what, names in (("declared but not computed", declared - found), ("not declared", found - declared))
        if names
    ]
    return "; ".join(complaints) or None
