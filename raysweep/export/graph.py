"""Describes what is exported of a model: one module from input to answer, with what its caller has to know."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from raysweep.atomic_files import Json
from raysweep.evaluate.stored_model import StoredModel
from raysweep.train.task import build_task

NUM_EXAMPLES = 2
"""Rows of the example inputs: a graph is traced with more than one, so that their number stays open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """A module to export: it takes `inputs` by name and returns a tuple of tensors, `outputs`, on the CPU."""

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    """Examples of its inputs, NUM_EXAMPLES rows each; the first axis is the batch."""
    outputs: tuple[str, ...]
    classes: tuple[str, ...] = ()
    """Names of the classes, where an output `index` numbers them: an ONNX file then has an output `label`, too."""
    takes_images: bool
    """Whether its one input is `images` (B, H, W, C) uint8, of any height and width; else it is drawn at random."""
    usage: str
    """Says to a person what goes in and comes out, and what the caller has to do."""
    facts: Json
    """What a program has to know, beside the graph: for one the side that images are decoded to."""

    @property
    def dynamic_axes(self) -> dict[str, tuple[int, ...]]:
        """Lists the axes of each input whose length is open."""
        return dict.fromkeys(self.inputs, (0, 1, 2) if self.takes_images else (0,))


def with_fp32(model: StoredModel) -> StoredModel:
    """Returns the model as it computes in fp32 on a CPU, whatever it was trained in."""
    training = dataclasses.replace(model.config.training, precision="fp32", channels_last=False)
    config = dataclasses.replace(model.config, training=training)
    return dataclasses.replace(model, config=config, task=build_task(config, model.info))
