"""Figures of a run, saved as PNG."""
