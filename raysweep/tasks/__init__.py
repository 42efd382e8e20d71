"""What is trained: a room for each task, with its configuration, networks, losses, metrics and evaluation."""

from raysweep.registry import Registry

TASKS = Registry(
    "raysweep.tasks",
    "task",
    {
        "autoencoder": "raysweep.tasks.autoencoder.config:AutoencoderConfig",
        "classification": "raysweep.tasks.classification.config:ClassificationConfig",
        "gan": "raysweep.tasks.gan.config:GanConfig",
    },
)
"""Configuration classes by the `kind` of their task."""
