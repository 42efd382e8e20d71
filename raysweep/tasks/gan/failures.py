"""Finds when a GAN's trial has failed: mode collapse and discriminator saturation, from the history of its metrics."""

from collections.abc import Mapping, Sequence

from raysweep.tasks.gan.config import CRITICS, GanConfig


def find_failure(config: GanConfig, history: Sequence[Mapping[str, float]], num_classes: int) -> str | None:
    """Finds why a trial with these metrics of its epochs is to end; none: it goes on.

    A failure is a state that held in each of the last `failing_epochs` epochs, all of them after the first
    `grace_epochs`, while the Frechet distance got no better than it had been: a young or a simple GAN may leave out
    classes for long and still be on its way.

    - Mode collapse: a class of the data is not generated, or the coverage is below `min_coverage`.
    - Discriminator saturation: the mean of its accuracies on real and generated images is at least `max_accuracy`.
      Not for Wasserstein losses, whose critic is meant to be as good as it can be.
    """
    if len(history) < config.grace_epochs + config.failing_epochs:
        return None
    before, recent = history[: -config.failing_epochs], history[-config.failing_epochs :]
    if before and _best_distance(recent) < _best_distance(before):
        return None
    last = history[-1]
    span = f"{config.failing_epochs} epochs without a better Frechet distance"
    if all(row["val/num_classes_generated"] < num_classes for row in recent):
        return f"mode collapse: {last['val/num_classes_generated']:.0f} of {num_classes} classes generated, {span}"
    if all(row["val/coverage"] < config.min_coverage for row in recent):
        return f"mode collapse: coverage {last['val/coverage']:.4f}, below {config.min_coverage}, {span}"
    if config.loss not in CRITICS and all(_accuracy(row) >= config.max_accuracy for row in recent):
        return f"discriminator saturation: accuracy {_accuracy(last):.4f}, at least {config.max_accuracy}, {span}"
    return None


def _best_distance(rows: Sequence[Mapping[str, float]]) -> float:
    return min(row["val/frechet_distance"] for row in rows)


def _accuracy(row: Mapping[str, float]) -> float:
    return (row["train/real_accuracy"] + row["train/fake_accuracy"]) / 2
