"""Begins and resumes sessions of a run: its lock, its identity, its Optuna storage, a changed search space."""
