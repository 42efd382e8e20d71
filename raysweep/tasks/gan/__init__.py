"""Generative adversarial networks: configuration, networks, losses, task, the judge of their images, evaluation."""
