"""What there is to know of a GPU, in one short visit to a machine that has one: `measure.py` runs it."""
