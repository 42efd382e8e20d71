"""Labels decoded images, or rejects them: the one module that `predict` runs and `export` writes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from raysweep.data.batches import STATISTICS
from raysweep.errors import UsageError
from raysweep.evaluate.stored_model import StoredModel
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.rejection.detector import Detector
from raysweep.tasks.classification.rejection.features import extract_features
from raysweep.tasks.classification.task import ClassificationTask


class Labels(NamedTuple):
    """Holds what is said of B images, on the CPU."""

    probabilities: torch.Tensor
    """(B, num_classes) float64."""
    accepted: torch.Tensor
    """(B,) bool: taken for one of the classes; else the label means nothing."""
    score: torch.Tensor
    """(B,) float64: how like the classes' images it is, higher is more; NaN without a detector."""
    embeddings: torch.Tensor
    """(B, D) float32: what the last linear layer is given."""


class Labeller(nn.Module):
    """Maps decoded pixels (B, H, W, C) uint8, of the side that a run decodes to, to `Labels`.

    Without a detector everything is accepted.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, model: StoredModel, detector: Detector | None) -> None:
        super().__init__()
        self.model, self.detector = model, detector
        self.network = model.modules["model"]
        self.image_size = model.config.data.image_size
        device = next(self.network.parameters()).device
        mean, deviation = STATISTICS[model.config.data.normalization]
        self.register_buffer("mean", torch.tensor(mean, device=device).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation, device=device).view(-1, 1, 1))

    @property
    def is_thread_safe(self) -> bool:
        """Tells whether several threads may call it at once.

        The networks of raysweep and of timm keep no images in themselves; one of somebody's own may, such as
        `self.skip = x`, and would then mix batches.
        """
        task = self.model.task
        return type(task) is ClassificationTask and not task.config.has_own_network

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalises as evaluation does: (B, H, W, C) uint8 to (B, C, image_size, image_size) float32."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        if images.shape[-1] != self.image_size:
            images = F.interpolate(images, [self.image_size, self.image_size], mode="bilinear", antialias=True)
        return (images - self.mean) / self.deviation

    def forward(self, pixels: torch.Tensor) -> Labels:
        """Labels images; pixels (B, H, W, C) uint8 on the model's device."""
        features = extract_features(self.model, self.normalise(pixels))
        probabilities = features.logits.double().softmax(dim=1)
        if self.detector is None:
            score = torch.full_like(probabilities[:, 0], torch.nan)
            accepted = torch.ones_like(score, dtype=torch.bool)
        else:
            score = self.detector.score_features(features)
            accepted = self.detector.accepts(score)
        return Labels(probabilities, accepted, score, features.penultimate)


def load_labeller(run_folder: RunFolder, model: StoredModel) -> Labeller:
    """Puts a run's best model and its detector together, where it has one.

    Raises:
        UsageError: the run's task gives no labels.
        CorruptFileError: the detector does not match its digest, or is of other weights.
    """
    if not isinstance(model.task, ClassificationTask):
        raise UsageError(f"{run_folder.path} is a study of {model.config.task.kind}, which has no labels to predict")
    path = run_folder.best.detector
    return Labeller(model, Detector.load(path, model) if path.is_file() else None)
