"""Detects images that are none of a study's classes: features, candidate scores, outliers, the detector, its report."""
