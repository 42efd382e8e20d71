"""MNIST GAN, simple or not: 10 digits, 70,000 grey images of 28x28.

    python -m platform.tune mnist_gan
    python -m platform.tune mnist_gan --data FOLDER_OF_IDX_FILES     # Fashion-MNIST for one

Expected: a Frechet distance of a tenth of the baseline's, by the shipped judge (or, for other images, by one trained on
them at first use). With `--trials 4 --max-epochs 50` on two cores, in 12 minutes (n = 1): 1.07 on the test images, the
baseline 11.69, real images 0.10; all 10 digits. The first starting point won; two trials were stopped by hand.

The baseline is the report's simple GAN: dense generator 100 - 256 - 512 - 784 and discriminator 512 - 256 - 1, binary
cross entropy, Adam(0.5, 0.999) at 2e-4 for both, batch 128, 50 epochs. What the report asked for is searched: four
more losses, convolutions, batch normalisation, the digit as an input, augmentation.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep import Budget, DataConfig, GanConfig, Objective, Study, TrainingConfig, When

STUDY = Study(
    name="mnist_gan",
    task=GanConfig(
        network="dense",
        latent_size=100,
        batch_norm=False,
        loss="bce",
        generator_learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        beta1=0.5,
    ),
    data=DataConfig(source="mnist", image_size=28, channels=1, normalization="symmetric"),
    training=TrainingConfig(epochs=50, batch_size=128),
    space={
        "task.loss": CategoricalDistribution(("bce", "wasserstein", "wasserstein_gp", "hinge", "least_squares")),
        "task.network": CategoricalDistribution(("dense", "dcgan")),
        "task.batch_norm": CategoricalDistribution((False, True)),
        "task.conditional": CategoricalDistribution((False, True)),
        "task.augmentation": CategoricalDistribution(("none", "translation", "translation_cutout")),
        "task.generator_learning_rate": FloatDistribution(5e-5, 1e-3, log=True),
        "task.discriminator_learning_rate": FloatDistribution(5e-5, 1e-3, log=True),
        "task.beta1": FloatDistribution(0.0, 0.9),
        "task.dropout": FloatDistribution(0.0, 0.5),
        "task.latent_size": IntDistribution(16, 256, log=True),
        "task.ema_decay": CategoricalDistribution((None, 0.99, 0.999)),
        "training.epochs": IntDistribution(10, 100),
    },
    conditions=(
        When("task.loss", ("bce", "least_squares"), {"task.real_label": FloatDistribution(0.7, 1.0)}),
        When(
            "task.loss",
            ("bce", "hinge", "least_squares"),
            {"task.spectral_norm": CategoricalDistribution((False, True))},
        ),
        When("task.loss", "wasserstein", {"task.weight_clip": FloatDistribution(0.005, 0.1, log=True)}),
        When("task.loss", "wasserstein_gp", {"task.gradient_penalty": FloatDistribution(0.1, 20.0, log=True)}),
        When("task.loss", ("wasserstein", "wasserstein_gp"), {"task.discriminator_steps": IntDistribution(1, 5)}),
    ),
    # A generator that is told the digit: see the figures above.
    points=({"task.conditional": True, "task.batch_norm": True},),
    objective=Objective(metric="val/frechet_distance", direction="minimize"),
    budget=Budget(trials=40),
)
