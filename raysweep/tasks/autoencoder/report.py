"""What the evaluation of an autoencoder found, as results, as texts and as JSON."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import confusion_matrix

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.statistics import Lift, describe_confusions, describe_lift, most_confused, report_classes
from raysweep.evaluate.stored_model import describe_model
from raysweep.tasks.autoencoder.latent_sizes import TOLERANCE, LatentSizes
from raysweep.tasks.autoencoder.reconstruction import Reconstruction
from raysweep.tasks.autoencoder.rows import ROWS

REPORT = "reconstruction_report"
PROBE_REPORT = "classification_report"
PAPERS = (
    "Negative ELBO: Kingma & Welling 2014, one sample of the code for each image; active units: Burda et al. 2016.",
    "The errors of a variational autoencoder are those of its mean code.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A linear classifier on the frozen code."""

    predicted: npt.NDArray[np.int64]
    """The class (N,) it gives each test image."""
    num_images: int
    """Training images it was fitted on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The best model and the baseline's on the test images; the latent-size curve is of validation images."""

    best: Reconstruction
    baseline: Reconstruction | None
    """None: the baseline failed."""
    lift: Lift | None
    """Of the squared error per pixel. None: there is no other model to compare with."""
    no_lift: str = ""
    """Why there is no lift; empty: there is one."""
    code_size: int
    """Values of the best model's code."""
    pca_error: float
    """Squared error per pixel on the test images of PCA with as many components."""
    sizes: LatentSizes
    probe: Probe

    @property
    def lift_text(self) -> str:
        """The best against the baseline in a sentence."""
        if self.lift is None:
            return self.no_lift
        return describe_lift(self.lift, "squared error per pixel against the baseline, lower is better", digits=5)

    def to_json(self) -> Json:
        """Returns the figures for results.json."""
        ratio = self.best.metrics["mse"] / self.pca_error if self.pca_error else None
        against_pca = "" if ratio is None else f", {ratio:.3f} of PCA's with as many values ({self.pca_error:.5f})"
        lift = {} if self.lift is None else {**asdict(self.lift), "includes_zero": self.lift.includes_zero}
        baseline = "failed" if self.baseline is None else f"{self.baseline.metrics['mse']:.5f}"
        return {
            **self.best.metrics,
            "num_images": len(self.best.errors),
            "report": f"{REPORT}.txt",
            "headline": f"squared error per pixel {self.best.metrics['mse']:.5f} (baseline "
            f"{baseline}) with a code of {self.code_size} values{against_pca}\n" + describe_sizes(self.sizes),
            "baseline": None if self.baseline is None else self.baseline.metrics,
            "lift": {**lift, "text": self.lift_text},
            "code_size": self.code_size,
            "pca_mse": self.pca_error,
            "pca_ratio": ratio,
            "latent_sizes": {
                "sizes": [asdict(entry) for entry in self.sizes.sizes],
                "smallest": self.sizes.smallest.size,
                "tolerance": TOLERANCE,
                "num_val_images": self.sizes.num_images,
            },
        }


def describe_sizes(sizes: LatentSizes) -> str:
    """Describes the smallest code that does, in a sentence."""
    smallest = sizes.smallest
    return (
        f"smallest code within {TOLERANCE:.0%} of the lowest validation error: {smallest.size} values "
        f"(trial {smallest.number}); sizes tried: {', '.join(str(entry.size) for entry in sizes.sizes)}"
    )


def write_reports(run: FinalRun, findings: Findings) -> None:
    """Writes the texts and the JSON to `run.folder`."""
    head = [f"{describe_model(run.best)}: {len(run.test)} test images, a code of {findings.code_size} values"]
    head += [findings.lift_text, *([run.note] if run.note else [])]
    parts = [_error_text(findings), _class_text(run, findings), _size_text(findings.sizes)]
    atomic_files.write_text(run.folder / f"{REPORT}.txt", "\n\n".join(["\n".join(head), *parts]) + "\n")
    _write_probe(run, findings.probe)
    atomic_files.write_json(run.folder / f"{REPORT}.json", {"note": run.note, **findings.to_json()})


def _error_text(findings: Findings) -> str:
    columns = {
        "best": findings.best.metrics,
        "baseline": {} if findings.baseline is None else findings.baseline.metrics,
    }
    rows = [row for row in ROWS if any(row[1] in metrics for metrics in columns.values())]
    lines = [f"{'':22}{'best':>12}{'baseline':>12}"]
    for title, name, meaning in rows:
        values = [f"{metrics[name]:.5f}" if name in metrics else "-" for metrics in columns.values()]
        lines.append(f"{title:22}" + "".join(f"{value:>12}" for value in values) + f"  {meaning}")
    lines.append(f"{'PCA, squared error':22}{findings.pca_error:>12.5f}{'':12}  {findings.code_size} components")
    return "\n".join([*lines, "", *PAPERS])


def _class_text(run: FinalRun, findings: Findings) -> str:
    labels, num_classes = run.test.labels, len(run.best.info.classes)
    columns = {"best": findings.best, "baseline": findings.baseline}
    errors = {name: class_means(found.errors, labels, num_classes) for name, found in columns.items() if found}
    counts = np.bincount(labels, minlength=num_classes)
    frame = pd.DataFrame({**errors, "images": counts}, index=list(run.best.info.classes))
    return f"Squared error per pixel by class:\n{frame.to_string(float_format='%.5f')}"


def class_means(
    errors: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], num_classes: int
) -> npt.NDArray[np.float64]:
    """Computes the mean (C,) of the errors (N,) of each class's images; 0 for a class that has none."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.bincount(labels, weights=errors, minlength=num_classes) / np.maximum(counts, 1)


def _size_text(sizes: LatentSizes) -> str:
    frame = pd.DataFrame(
        {
            "values": [entry.size for entry in sizes.sizes],
            "validation error": [entry.error for entry in sizes.sizes],
            "PCA": [entry.pca_error for entry in sizes.sizes],
            "trial": [entry.number for entry in sizes.sizes],
            "epoch": [entry.epoch for entry in sizes.sizes],
            "stopped": ["yes" if entry.stopped else "no" for entry in sizes.sizes],
        }
    )
    head = (
        "Sizes of the code: squared error per pixel of the best trial of each size, and of PCA with as many\n"
        f"components, on {sizes.num_images} validation images; the test images choose nothing."
    )
    lost = "".join(f"\nLeft out: {reason}" for reason in sizes.left_out)
    return f"{head}\n{frame.to_string(index=False, float_format='%.5f')}\n{describe_sizes(sizes)}{lost}"


def _write_probe(run: FinalRun, probe: Probe) -> None:
    """Writes the classification report of the linear probe, as text and JSON."""
    classes = run.best.info.classes
    report = report_classes(run.test.labels, probe.predicted, classes)
    matrix = confusion_matrix(run.test.labels, probe.predicted, labels=range(len(classes)))
    lines = [
        f"Linear probe on the frozen code of {describe_model(run.best)}: logistic regression fitted on the codes of",
        f"{probe.num_images} training images, {len(run.test)} test images",
        *([run.note] if run.note else []),
        "",
        report.text,
        describe_confusions(most_confused(matrix, classes)),
    ]
    atomic_files.write_text(run.folder / f"{PROBE_REPORT}.txt", "\n".join(lines) + "\n")
    atomic_files.write_json(run.folder / f"{PROBE_REPORT}.json", {"note": run.note, "report": report.values})
