"""Names the judge's scores of a generator that its text and the report show."""

ROWS = (
    ("Frechet distance", "frechet_distance", "lower is better", None),
    ("kernel distance", "kernel_distance", "lower, 0: the same", "kernel_distance_error"),
    ("precision", "precision", "higher, 0..1", None),
    ("recall", "recall", "higher, 0..1", None),
    ("density", "density", "higher, about 1", None),
    ("coverage", "coverage", "higher, 0..1", None),
    ("classifier score", "classifier_score", "higher", "classifier_score_deviation"),
    ("classes generated", "num_classes_generated", "all", None),
    ("class KL to uniform", "class_kl", "lower, nats", None),
)
"""Title, key in the results, which way is good, and the key of its error, where it has one."""
