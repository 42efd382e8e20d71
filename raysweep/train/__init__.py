"""Trains one trial: loop, task, state, checkpoints, optimizers, precision, metrics; and what runs it on Ray."""
