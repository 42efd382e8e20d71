"""Builds what is exported of a classifier: images in; class, confidence and whether it is accepted out."""

import torch
import torch.nn.functional as F
from torch import nn

from raysweep.evaluate.stored_model import StoredModel
from raysweep.export.graph import NUM_EXAMPLES, Graph, with_fp32
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.labelling import Labeller, load_labeller

OUTPUTS = ("index", "confidence", "accepted", "score", "probabilities")
USAGE = """\
Input: images, uint8 (B, height, width, {channels}), {colours}, of any size, upright.
Before: decode the file, turn it upright by its EXIF orientation, lay it on white where it is transparent, convert it to
{colours}. The graph resizes to {size}x{size}, stretched and antialiased, as Pillow's Image.resize((w, h), BILINEAR)
does, and normalises. raysweep itself resizes large files with Pillow's reducing_gap=3.0, and JPEGs with draft(): to get
the same digits do that first, down to {size}x{size}, which the graph then leaves as it is.
Outputs: index (the class's number) and, in an ONNX file, label (its name); confidence, the probability of that class;
accepted, false where the image is taken for none of the classes: its label then means nothing; score, how like the
classes' images it is, higher is more{threshold}; probabilities of all classes."""


class ImageLabeller(nn.Module):
    """Maps images (B, H, W, C) uint8 of any size to the tensors that OUTPUTS names."""

    def __init__(self, labeller: Labeller, size: int) -> None:
        super().__init__()
        self.labeller = labeller
        self.size = size

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Resizes as decoding does, to whole levels, and labels."""
        maps = images.permute(0, 3, 1, 2).float()
        resized = F.interpolate(maps, [self.size, self.size], mode="bilinear", antialias=True).round().clamp(0, 255)
        labels = self.labeller(resized.permute(0, 2, 3, 1))
        confidence, index = labels.probabilities.max(dim=1)
        return index, confidence.float(), labels.accepted, labels.score.float(), labels.probabilities.float()


def build_graph(model: StoredModel, run_folder: RunFolder) -> Graph:
    """Builds the graph of a run's classifier with its detector, where it has one."""
    data = model.config.data
    labeller = load_labeller(run_folder, with_fp32(model))
    side = data.decoded_size
    threshold = "" if labeller.detector is None else f" (at least {labeller.detector.threshold:.6g} is accepted)"
    colours = "RGB" if data.channels == 3 else "grey (luma, ITU-R 601-2)"
    return Graph(
        module=ImageLabeller(labeller, side).eval(),
        inputs={"images": torch.zeros(NUM_EXAMPLES, side + 1, side + 2, data.channels, dtype=torch.uint8)},
        outputs=OUTPUTS,
        classes=model.info.classes,
        takes_images=True,
        usage=USAGE.format(channels=data.channels, colours=colours, size=side, threshold=threshold),
        facts={"size": side, "channels": data.channels, "max_pixels": data.max_pixels},
    )
