"""Publishes a run's best model with a model card: to a folder, or to the Hugging Face hub."""
