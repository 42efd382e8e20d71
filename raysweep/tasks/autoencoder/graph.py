"""Builds what is exported of a variational autoencoder: codes of its prior in, images out."""

import torch
from torch import nn

from raysweep.errors import UsageError
from raysweep.evaluate.stored_model import StoredModel
from raysweep.export.generator import ImageGenerator, describe_usage
from raysweep.export.graph import NUM_EXAMPLES, Graph, with_fp32
from raysweep.run_folder import RunFolder
from raysweep.tasks.autoencoder.task import AutoencoderTask


class _Decoder(nn.Module):
    """Maps codes (B, K) to images (B, C, H, H) in [0, 1]."""

    def __init__(self, model: StoredModel) -> None:
        super().__init__()
        assert isinstance(model.task, AutoencoderTask)
        self.task = model.task
        self.network = model.modules["model"]

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Decodes codes."""
        return self.task.decode(self.network, noise)


def build_graph(model: StoredModel, run_folder: RunFolder) -> Graph:
    """Builds the graph of a run's decoder.

    Raises:
        UsageError: the autoencoder is not variational: no distribution of its codes is known to draw from.
    """
    task = model.task
    assert isinstance(task, AutoencoderTask)
    if task.config.variant != "variational":
        raise UsageError(
            "export writes what generates images, of an autoencoder with task.variant=variational, got a "
            f"{task.config.variant} one; `raysweep.load_run(RUN).load_model()` gives its encoder and decoder"
        )
    return Graph(
        module=ImageGenerator(_Decoder(with_fp32(model))).eval(),
        inputs={"noise": torch.zeros(NUM_EXAMPLES, task.code_size)},
        outputs=("images",),
        takes_images=False,
        usage=describe_usage(task.code_size, ()),
        facts={"noise": task.code_size, "num_classes": 0, "class_names": []},
    )
