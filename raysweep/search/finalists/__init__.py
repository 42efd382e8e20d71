"""Trains the best configurations of a search again with other seeds, and compares them."""
