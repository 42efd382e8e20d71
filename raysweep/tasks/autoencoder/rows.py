"""Names the errors of an autoencoder that its text and the report show."""

ROWS = (
    ("squared error", "mse", "mean over pixels and images"),
    ("cross entropy", "bce", "nats, mean over pixels and images"),
    ("excess cross entropy", "excess_bce", "the same minus the grey pixels' own entropy, below which none can go"),
    ("KL", "kl", "nats, summed over the code, mean over images"),
    ("negative ELBO", "negative_elbo", "nats: cross entropy summed over pixels plus KL, mean over images"),
    ("active units", "active_units", "values of the code whose mean has a variance above 0.01"),
)
"""Title, key in the results, and what it is."""
