"""Autoencoders, plain, denoising and variational: configuration, networks, task, evaluation."""
