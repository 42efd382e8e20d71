"""Fashion-MNIST autoencoder: 10 garments, 70,000 grey images of 28x28, through a code of 2 to 256 values.

    python -m platform.tune fashion_autoencoder
    python -m platform.tune fashion_autoencoder --set task.bottleneck=dense --set task.latent_size=16
    python -m platform.tune fashion_autoencoder --set task.variant=variational

Expected: little more than half of the baseline's squared error. With `--max-epochs 12` and eight trials on two cores,
other work beside, in 35 minutes (n = 1): 0.00743 per pixel on the test images with a code of 128 values, the baseline,
128 values too, 0.01325. On the validation images 0.50 of PCA's error with a code of 16 values, 0.56 with 32, 0.74 with
64; with 128 values PCA is better (1.17).

The baseline is the report's network: encoder 32-16-8 with pooling (28-14-7-4), the decoder mirrored, a code of 4x4x8
values, binary cross entropy, Adam 1e-3, batch 128, 20 epochs. What the report asked for is searched: latent sizes,
dropout, denoising and variational autoencoders.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep import AutoencoderConfig, Budget, DataConfig, Objective, Study, TrainingConfig, When

# Dense codes: see the figures above.
DENSE = {
    "task.bottleneck": "dense",
    "task.loss": "mse",
    "task.width": 2.0,
    "task.batch_norm": True,
    "task.learning_rate": 4e-3,
    "task.schedule": "one_cycle",
    "training.batch_size": 64,
}

STUDY = Study(
    name="fashion_autoencoder",
    task=AutoencoderConfig(
        variant="plain",
        bottleneck="spatial",
        loss="bce",
        optimizer="adam",
        learning_rate=1e-3,
    ),
    data=DataConfig(source="fashion-mnist", image_size=28, channels=1, normalization="unit"),
    training=TrainingConfig(epochs=20, batch_size=128),
    space={
        "task.bottleneck": CategoricalDistribution(("spatial", "dense")),
        "task.variant": CategoricalDistribution(("plain", "denoising", "variational")),
        "task.loss": CategoricalDistribution(("bce", "mse")),
        "task.width": CategoricalDistribution((0.5, 1.0, 2.0, 4.0)),
        "task.dropout": FloatDistribution(0.0, 0.3),
        "task.batch_norm": CategoricalDistribution((False, True)),
        "task.learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
        "task.schedule": CategoricalDistribution(("none", "cosine", "one_cycle")),
        "training.batch_size": CategoricalDistribution((64, 128, 256)),
        "training.epochs": IntDistribution(5, 60),
    },
    conditions=(
        When(
            "task.bottleneck", "dense", {"task.latent_size": CategoricalDistribution((2, 4, 8, 16, 32, 64, 128, 256))}
        ),
        When("task.variant", "denoising", {"task.noise_std": FloatDistribution(0.05, 0.5, log=True)}),
        When(
            "task.variant",
            "variational",
            {"task.beta": FloatDistribution(0.1, 4.0, log=True), "task.kl_warmup_epochs": FloatDistribution(0.0, 10.0)},
        ),
    ),
    points=({**DENSE, "task.latent_size": 32}, {**DENSE, "task.latent_size": 16}),
    objective=Objective(metric="val/mse", direction="minimize"),
    budget=Budget(trials=40),
)
