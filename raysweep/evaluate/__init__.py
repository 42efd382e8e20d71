"""Evaluates a finished run on its sealed test split: what all tasks share."""
