"""Looks back at runs: lists and compares them, tells of a trial, trains one again, frees what is not needed."""
