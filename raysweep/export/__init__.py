"""Writes a run's best model for use without raysweep: ONNX, or a folder that needs torch and Pillow only."""
