"""Builds what is exported of a GAN: noise in, generated images out."""

import torch
from torch import nn

from raysweep.evaluate.stored_model import StoredModel
from raysweep.export.generator import ImageGenerator, describe_usage
from raysweep.export.graph import NUM_EXAMPLES, Graph, with_fp32
from raysweep.run_folder import RunFolder
from raysweep.tasks.gan.task import GanTask


class _Generator(nn.Module):
    """Maps noise, and labels where the GAN is conditional, to images (B, C, H, H) in [0, 1]."""

    def __init__(self, model: StoredModel) -> None:
        super().__init__()
        assert isinstance(model.task, GanTask)
        self.task = model.task
        self.generator = model.modules["generator"]

    def forward(self, noise: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Generates images."""
        return self.task.generate(self.generator, noise, labels)


def build_graph(model: StoredModel, run_folder: RunFolder) -> Graph:
    """Builds the graph of a run's generator."""
    task = model.task
    assert isinstance(task, GanTask)
    classes = model.info.classes if task.config.conditional else ()
    inputs = {"noise": torch.zeros(NUM_EXAMPLES, task.config.latent_size)}
    if classes:
        inputs["labels"] = torch.zeros(NUM_EXAMPLES, dtype=torch.int64)
    return Graph(
        module=ImageGenerator(_Generator(with_fp32(model))).eval(),
        inputs=inputs,
        outputs=("images",),
        takes_images=False,
        usage=describe_usage(task.config.latent_size, classes),
        facts={"noise": task.config.latent_size, "num_classes": len(classes), "class_names": list(classes)},
    )
