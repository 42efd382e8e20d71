"""Chooses networks, image size, epochs and trials from facts and times; looks for weights, and is pure but for that."""

from collections.abc import Callable
from dataclasses import dataclass

from raysweep.errors import UsageError
from raysweep.proposal.facts import Images, Machine
from raysweep.tasks.classification.config import FASHION_CNN, ClassificationConfig

AUTOENCODER = "autoencoder"
"""What stands for the network of a study without classes."""
Timer = Callable[[str, int], float]
"""Tells how many seconds a core takes to train a network, by its name, on one image of that side, in pixels."""
TINY = 48
"""Shorter side up to which images have no use for networks made for photographs, in pixels."""
SIZES = (224, 160, 128, 96, 64)
"""Sides of photographs that are considered, in pixels."""
SECONDS = {
    FASHION_CNN: 0.006,
    "efficientnet_b0": 0.012,
    "resnet18": 0.013,
    "regnety_016": 0.015,
    "resnet50": 0.032,
    "convnext_tiny": 0.035,
    AUTOENCODER: 0.006,
}
"""Of one core to train on one image of 64x64, for machines with GPUs, where nothing is timed: rough."""
RATE, FAST_RATE = 1e-3, 3e-3
"""Learning rates: the second is of the small pretrained networks of CPUs, which have few epochs. After three of them it
had 0.87 and the first 0.78 (`benchmarks/README.md`, 2026-11-28)."""
CORES_PER_GPU = 100
"""Cores that a GPU is taken for: rough."""
WHOLE_TRIALS = 3
"""Trials of the most epochs that a budget has room for: few, as the search stops three of four early."""
LONGEST_SHARE = 2 / 3
"""Of a time budget that the longest trial takes, alone on its core or GPU, however many there are."""
MOST_EPOCHS, MOST_PRETRAINED = 40, 15
"""Of a trial, from scratch and from pretrained weights, from where a few epochs do."""
LEAST_EPOCHS, LEAST_PRETRAINED = 20, 5
"""Of the longest trial; images are made smaller until a budget has room for it. Pretrained networks have learned on
large images, and lose more by small ones than by few epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What of a study depends on the images and the machine."""

    models: tuple[str, ...]
    """Candidates, the first is the baseline's; of an autoencoder's study none."""
    pretrained: bool
    why_weights: str
    """Why pretrained, or not."""
    image_size: int
    max_epochs: int
    num_trials: int
    batch_sizes: tuple[int, int, int]
    learning_rate: float
    images_per_s: float
    """Images a second that a core trains the baseline's network on, as estimated."""


def choose(images: Images, machine: Machine, time_s: float, timer: Timer) -> Choices:
    """Chooses; looks for the pretrained weights of photographs' networks, which fetches them where there is a network.

    Where they cannot be had networks are trained from scratch.
    """
    models, reason = _choose_models(images, machine)
    had = find_weights(models) if not reason else ()
    if had:
        models, reason = had, "their weights can be had, and a few epochs from there are worth many from scratch"
    elif models and not reason:
        models = ("resnet18", "resnet34") if machine.num_gpus else ("resnet10t", "resnet18")
        reason = "the weights of none of the candidates can be had: no network, and no copy in HF_HOME"
    name = models[0] if models else AUTOENCODER
    least, most = (LEAST_PRETRAINED, MOST_PRETRAINED) if had else (LEAST_EPOCHS, MOST_EPOCHS)
    size = _choose_size(images, machine, name, time_s, timer, least)
    seconds = timer(name, size)
    total = count_epochs(seconds, images, machine, time_s)
    max_epochs = int(min(max(total * find_longest(machine), 3), most))
    return Choices(
        models=models,
        pretrained=bool(had),
        why_weights=reason,
        image_size=size,
        max_epochs=max_epochs,
        # Ten times as many as would be whole, as most are stopped early: the time is what ends the search.
        num_trials=int(min(max(10 * total / max_epochs, 6), 200)),
        batch_sizes=_choose_batches(images.num_train),
        learning_rate=FAST_RATE if had and not machine.num_gpus else RATE,
        images_per_s=1 / seconds,
    )


def guess_seconds(name: str, size: int) -> float:
    """Guesses by a table: the timer of machines with GPUs."""
    return SECONDS[name] * (size / 64) ** 2


def find_weights(models: tuple[str, ...]) -> tuple[str, ...]:
    """Finds the networks whose pretrained weights can be had, and leaves those in the cache of the hub's client."""
    from raysweep.tasks.classification.weights import read_origin  # slow: imports torch

    had = []
    for model in models:
        try:
            read_origin(ClassificationConfig(model=model, pretrained=True))
        except UsageError:
            continue
        had.append(model)
    return tuple(had)


def count_epochs(seconds: float, images: Images, machine: Machine, time_s: float) -> float:
    """Estimates how many epochs a time budget has room for, over all trials, by a core's seconds for an image."""
    cores = machine.num_gpus * CORES_PER_GPU or machine.num_cpus
    return time_s * cores / (images.num_train * seconds)


def find_longest(machine: Machine) -> float:
    """Finds which share of all epochs the longest trial may have: it leaves room for others, and ends in time."""
    return min(1 / WHOLE_TRIALS, LONGEST_SHARE / (machine.num_gpus or machine.num_cpus))


def _choose_models(images: Images, machine: Machine) -> tuple[tuple[str, ...], str]:
    """Chooses networks to look for weights of, or those that are trained from scratch, and why."""
    if not images.num_classes:
        return (), "an autoencoder has none"
    if images.side <= TINY:
        return (FASHION_CNN, "resnet10t", *(["resnet18"] * bool(machine.num_gpus))), "the images are tiny"
    if machine.num_gpus:
        return ("resnet50", "convnext_tiny", "regnety_016", "efficientnet_b0"), ""
    return ("efficientnet_lite0", "resnet10t", "mobilenetv3_small_050"), ""


def _choose_size(images: Images, machine: Machine, name: str, time_s: float, timer: Timer, least: int) -> int:
    """Chooses the largest side that the images have, and with which the longest trial has so many epochs at least."""
    if not images.num_classes:
        return 28 if images.side == 28 else 64 if machine.num_gpus and images.side >= 64 else 32
    if images.side <= TINY:
        return min(max(images.side // 4 * 4, 16), TINY)
    smallest = SIZES[-1]
    sizes = [size for size in SIZES if size <= max(images.side, smallest)]
    by_pixel = timer(name, smallest) / smallest**2
    for size in sizes:
        total = count_epochs(by_pixel * size**2, images, machine, time_s)
        if total * find_longest(machine) >= least:
            return size
    return smallest


def _choose_batches(num_train: int) -> tuple[int, int, int]:
    """Chooses batches so that an epoch has some dozens of steps at least."""
    if num_train < 2000:
        return 16, 32, 64
    return (32, 64, 128) if num_train < 20_000 else (64, 128, 256)
