"""Trackers of a search: Weights & Biases, TensorBoard and MLflow, each in a file of its own."""
