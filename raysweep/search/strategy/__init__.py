"""Proposes trials and stops weak ones: samplers and pruners by name over a persistent Optuna study. No Ray here."""
