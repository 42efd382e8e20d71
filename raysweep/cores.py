"""Counts the CPU cores that this process may use."""

import os


def count_cores() -> int:
    """Counts them; where the system does not say which these are, as on macOS, all that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
