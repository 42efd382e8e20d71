"""What the evaluation of a generator found, as results, as a text and as JSON."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.statistics import Lift, describe_lift, report_classes
from raysweep.evaluate.stored_model import describe_model
from raysweep.tasks.gan.generated import Generated, is_conditional
from raysweep.tasks.gan.neighbours import Neighbours
from raysweep.tasks.gan.rows import ROWS
from raysweep.tasks.gan.scores import Scores

REPORT = "generation_report"
PAPERS = (
    "Frechet distance: Heusel et al. 2017; kernel distance and its standard error: Binkowski et al. 2018; precision",
    "and recall: Kynkaanniemi et al. 2019, density and coverage: Naeem et al. 2020, k = 5; classifier score and its",
    "deviation over 10 parts: Salimans et al. 2016.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """Scores of the best generator (`best`), of another one that is the baseline's (`baseline`), of `real` images."""

    judge: Json
    """`source`, `accuracy` on the validation images and `digest`."""
    asked: npt.NDArray[np.int64]
    """The class (N,) of each test image, which conditional generators were asked for."""
    generated: dict[str, Generated]
    scores: dict[str, Scores]
    """`real`: as many training images in the place of generated ones."""
    floor: float
    """Frechet distance of half of the training images."""
    floor_num_images: int
    baseline_failed: bool
    lift: Lift | None
    """None: there is no other generator to compare with."""
    no_lift: str
    """Why there is no lift; empty: there is one."""
    seeds: Json | None
    """Frechet distances of the finalists' seeds, see `measure_seeds`."""
    neighbours: dict[str, Neighbours]
    """By `pixels` and by `features`."""
    synthetic: dict[str, float] | None
    """Accuracies of "train on synthetic, test on real"; None: the best generator is not conditional."""

    @property
    def lift_text(self) -> str:
        """The best against the baseline in a sentence."""
        if self.lift is None:
            return self.no_lift
        return describe_lift(self.lift, "Frechet distance against the baseline, lower is better", digits=3)

    def to_json(self) -> Json:
        """Returns the figures for results.json."""
        best, num_classes = self.scores["best"], len(self.scores["best"].class_counts)
        baseline = None if self.baseline_failed else self.scores.get("baseline", best)
        compared = "failed" if baseline is None else f"{baseline.frechet_distance:.3f}"
        real = self.scores["real"].frechet_distance
        headline = (
            f"Frechet distance {best.frechet_distance:.3f} (baseline {compared}, real images {real:.3f}), "
            f"coverage {best.coverage:.3f}, {best.num_classes_generated} of {num_classes} classes"
        )
        lift = {} if self.lift is None else {**asdict(self.lift), "includes_zero": self.lift.includes_zero}
        return {
            **asdict(best),
            "num_images": len(self.asked),
            "report": f"{REPORT}.txt",
            "headline": headline,
            "baseline": None if baseline is None else asdict(baseline),
            "real": asdict(self.scores["real"]),
            "real_frechet_distance": self.floor,
            "real_num_images": self.floor_num_images,
            "lift": {**lift, "text": self.lift_text},
            "seeds": self.seeds,
            "nearest_training_images": {name: found.summarise() for name, found in self.neighbours.items()},
            "synthetic_accuracy": self.synthetic and self.synthetic["synthetic"],
            "train_on_synthetic": self.synthetic,
            "judge": {name: self.judge[name] for name in ("source", "accuracy", "digest")},
        }


def write_reports(run: FinalRun, findings: Findings) -> None:
    """Writes the text and the JSON of all findings to `run.folder`."""
    models = {"best": run.best, "baseline": run.rival}
    reports = {
        name: report_classes(findings.asked, findings.generated[name].recognised, run.best.info.classes)
        for name, model in models.items()
        if model is not None and is_conditional(model)
    }
    best = f"Images of {describe_model(run.best)}: {len(findings.asked)} of seeded noise against as many test images"
    parts = [
        "\n".join([best, findings.lift_text, *([run.note] if run.note else [])]),
        _score_text(run, findings),
        _class_text(run, findings),
        _neighbour_text(findings),
    ]
    if findings.synthetic:
        parts.append(_synthetic_text(findings.synthetic, len(run.test)))
    for name, report in reports.items():
        parts.append(f"{name}: class asked for against class recognised by the judge\n{report.text}")
    atomic_files.write_text(run.folder / f"{REPORT}.txt", "\n\n".join(part.rstrip("\n") for part in parts) + "\n")
    values = {name: report.values for name, report in reports.items()}
    atomic_files.write_json(
        run.folder / f"{REPORT}.json", {"note": run.note, **findings.to_json(), "asked_for_and_recognised": values}
    )


def _score_text(run: FinalRun, findings: Findings) -> str:
    columns = {"best": "best", "baseline": "baseline", "real": "real images"}
    lines = [
        f"{'':20}{'':20}" + "".join(f"{columns[name]:>20}" for name in findings.scores),
        *(
            f"{title:20}{direction:20}"
            + "".join(f"{_value(scores, value, error):>20}" for scores in findings.scores.values())
            for title, value, direction, error in ROWS
        ),
        "",
        f"best: {describe_model(run.best)}; baseline: {run.describe_baseline()}",
        f"real images: {findings.scores['real'].num_images} training images in the place of generated ones.",
        f"Half of the training images ({findings.floor_num_images}) against the test images: Frechet distance "
        f"{findings.floor:.3f}.",
        f"Judge: {findings.judge['source']};",
        f"accuracy {findings.judge['accuracy']:.4f} on the validation images. Scores compare where its digest is",
        f"{findings.judge['digest']}.",
        *PAPERS,
    ]
    return "\n".join(lines)


def _value(scores: Scores, name: str, error: str | None) -> str:
    value = getattr(scores, name)
    if error is not None:
        return f"{value:.4f} ± {getattr(scores, error):.4f}"
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"


def _class_text(run: FinalRun, findings: Findings) -> str:
    counts = {"test images": np.bincount(findings.asked, minlength=len(run.best.info.classes))}
    counts |= {name: np.array(scores.class_counts) for name, scores in findings.scores.items() if name != "real"}
    frame = pd.DataFrame(counts, index=list(run.best.info.classes))
    return f"Images of each class, as the judge recognises generated ones:\n{frame.to_string()}"


def _neighbour_text(findings: Findings) -> str:
    num_images = len(findings.generated["best"].images)
    lines = [f"Nearest training image, of {num_images} generated and as many test images (a copy would be at 0):"]
    for space, found in findings.neighbours.items():
        values = found.summarise()
        lines.append(
            f"  by {space + ':':10} median distance {values['generated_median']:.3f} generated, "
            f"{values['test_median']:.3f} test; smallest {values['generated_smallest']:.3f} generated, "
            f"{values['test_smallest']:.3f} test"
        )
    return "\n".join(lines)


def _synthetic_text(synthetic: dict[str, float], num_test: int) -> str:
    return (
        f"Train on synthetic, test on real (Esteban et al. 2017), n = {num_test} test images: accuracy\n"
        f"{synthetic['synthetic']:.4f} of a network trained on {synthetic['num_images']} generated images, "
        f"{synthetic['real']:.4f} of one trained on as many real ones"
    )
