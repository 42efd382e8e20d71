"""Forecasts the time, memory, disk and cost of a search from a short probe of it."""
