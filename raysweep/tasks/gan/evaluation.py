"""A generator against the test images, by the judge: scores, reports, figures, and the lift over the baseline."""

import numpy as np
import numpy.typing as npt
import torch

from raysweep.atomic_files import Json
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.seeds import measure_seeds
from raysweep.tasks.gan.figures import draw_figures
from raysweep.tasks.gan.generated import Generated, generate_judged, is_conditional, iterate_real, train_on_synthetic
from raysweep.tasks.gan.judge.network import judge_batches, load_judge
from raysweep.tasks.gan.judge.store import ensure_judge
from raysweep.tasks.gan.neighbours import Neighbours, find_neighbours
from raysweep.tasks.gan.report import Findings, write_reports
from raysweep.tasks.gan.scores import bootstrap_frechet, frechet_distance, score_images

NUM_IMAGES = 10_000
SEED = 0
"""Of the noise: best and baseline are given the same."""


def evaluate(run: FinalRun) -> Json:
    """Evaluates the best generator and, beside it, the baseline's; writes everything to `run.folder`.

    As many images are generated as there are test images, 10,000 at most, and of the same classes where a generator
    can be asked for one. Returns the figures for results.json.
    """
    findings = measure(run)
    with run.part("reports and figures"):
        write_reports(run, findings)
        draw_figures(run, findings)
    return findings.to_json()


def measure(run: FinalRun) -> Findings:
    """Gathers everything that reports and figures show."""
    with run.part("judge"):
        judge, facts = load_judge(ensure_judge(run.data))
    device = next(run.best.modules["generator"].parameters()).device
    judge.to(device)
    data = run.best.config.data
    rows = np.sort(np.random.default_rng(0).permutation(len(run.test))[:NUM_IMAGES])
    labels = run.test.labels[rows]
    with run.part("features of real images"):
        real, _ = judge_batches(judge, iterate_real(run.test, data, device, rows))
        train, train_logits = judge_batches(judge, iterate_real(run.data.train, data, device))
    with run.part("generated images"):
        generated = {"best": generate_judged(run.best, judge, labels, SEED)}
        if run.rival is not None:
            generated["baseline"] = generate_judged(run.rival, judge, labels, SEED)
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(train)))
    as_many, half = order[: len(rows)], order[: max(2, len(train) // 2)]
    baseline = generated.get("baseline")
    with run.part("scores"):
        scores = {name: score_images(real, images.features, images.logits) for name, images in generated.items()}
        scores["real"] = score_images(real, train[as_many], train_logits[as_many])
        lift = None if baseline is None else bootstrap_frechet(real, generated["best"].features, baseline.features)
    seeds = measure_seeds(
        run,
        "frechet_distance",
        lambda model: frechet_distance(real, generate_judged(model, judge, labels, SEED).features),
    )
    with run.part("nearest training images"):
        neighbours = _find_neighbours(run, generated["best"], rows, real, train)
    with run.part("training on generated images"):
        synthetic = train_on_synthetic(run.best, run.data, run.test, device) if is_conditional(run.best) else None
    return Findings(
        judge=facts,
        asked=labels,
        generated=generated,
        scores=scores,
        floor=frechet_distance(real, train[half]),
        floor_num_images=len(half),
        baseline_failed=run.baseline is None,
        no_lift=run.explain_no_lift() if run.rival is None else "",
        lift=lift,
        seeds=seeds,
        neighbours=neighbours,
        synthetic=synthetic,
    )


def _find_neighbours(
    run: FinalRun, best: Generated, rows: npt.NDArray[np.int64], real: torch.Tensor, train: torch.Tensor
) -> dict[str, Neighbours]:
    """Returns the training images nearest to the first generated ones, by pixels in [0, 1] and by features."""
    cpu, data, num = torch.device("cpu"), run.best.config.data, len(best.images)
    pixels = torch.from_numpy(best.images).permute(0, 3, 1, 2).float().div(255)
    test = torch.cat(list(iterate_real(run.test, data, cpu, rows[:num])))
    batches = (batch.flatten(1) for batch in iterate_real(run.data.train, data, cpu))
    return {
        "pixels": find_neighbours(pixels.flatten(1), test.flatten(1), batches),
        "features": find_neighbours(best.features[:num], real[:num], [train]),
    }
