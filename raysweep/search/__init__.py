"""Runs studies: trials on Ray Tune as an Optuna study proposes them, and what a run leaves in its folder."""
