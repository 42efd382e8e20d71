"""Serves a run's best model over HTTP: a page, and a JSON endpoint with limits, for label, refusal and heat map."""
