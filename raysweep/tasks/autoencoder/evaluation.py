"""An autoencoder on the test images: errors, figures, what its code is good for, and the lift over the baseline."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raysweep.atomic_files import Json
from raysweep.data.images import space_evenly
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.seeds import measure_seeds
from raysweep.evaluate.statistics import bootstrap_mean_difference
from raysweep.tasks.autoencoder.figures import draw_figures
from raysweep.tasks.autoencoder.latent_sizes import measure_latent_sizes
from raysweep.tasks.autoencoder.reconstruction import Reconstruction, encode_images, get_task, reconstruct
from raysweep.tasks.autoencoder.report import Findings, Probe, write_reports
from raysweep.tasks.autoencoder.test_scores import save_errors

NUM_PROBE_IMAGES = 20_000


def evaluate(run: FinalRun) -> Json:
    """Evaluates the best autoencoder and, beside it, the baseline's; see FinalRun."""
    findings = measure(run)
    seeds = measure_seeds(run, "mse", lambda model: float(reconstruct(model, run.test).errors.mean()))
    with run.part("reports and figures"):
        write_reports(run, findings)
        save_errors(run.folder, findings.best.errors)
        draw_figures(run, findings)
    return {**findings.to_json(), "seeds": seeds}


def measure(run: FinalRun) -> Findings:
    """Gathers everything that reports and figures show."""
    with run.part("test images"):
        best = reconstruct(run.best, run.test)
    with run.part("baseline"):
        rival = None if run.rival is None else reconstruct(run.rival, run.test)
    with run.part("latent sizes and PCA"):
        sizes, pca = measure_latent_sizes(run.run_folder, run.data, run.best.config.data)
        code_size = get_task(run.best).code_size
        pca_error = pca.measure(run.test, [code_size])[code_size]
    with run.part("linear classifier on the code"):
        probe = fit_probe(run, best)
    return Findings(
        best=best,
        baseline=best if rival is None and run.baseline is not None else rival,
        lift=None if rival is None else bootstrap_mean_difference(best.errors, rival.errors),
        no_lift=run.explain_no_lift() if rival is None else "",
        code_size=code_size,
        pca_error=pca_error,
        sizes=sizes,
        probe=probe,
    )


def fit_probe(run: FinalRun, test: Reconstruction) -> Probe:
    """Fits a linear classifier on the frozen codes of training images, and asks it for the test images' classes.

    Multinomial logistic regression on standardised codes (Alain & Bengio 2017), L2 with C = 1, nothing tuned.
    """
    rows = space_evenly(len(run.data.train), NUM_PROBE_IMAGES)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(encode_images(run.best, run.data.train, rows), run.data.train.labels[rows])
    return Probe(predicted=np.asarray(probe.predict(test.codes)), num_images=len(rows))
