"""Connects to a Ray cluster, counts what fits on it, and finds what is lost or wrong there."""
