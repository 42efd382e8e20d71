"""Records learning curves of random configurations of the Fashion CNN, which search_efficiency.py searches on.

Space: the study `fashion_cnn` without its epochs: every configuration trains 15, without early stopping, and schedules
anneal over them. Data: 1,000 training and 1,000 validation images of the study's own splits, drawn once by class with a
seed; no test image. Each configuration is trained by the platform's `fit` in this process, on one thread, in bf16.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/record_curves.py [--data FOLDER]        # about 30 min on one core

FOLDER has Fashion-MNIST's idx files; default as in training_throughput.py. A line is added for each configuration:
parameters, `val/accuracy` after each epoch, and the CPU seconds of each epoch, evaluation included. Those that are
there are not trained again, so that it can be done in pieces (`--for 200` seconds each).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _recorded import RECORDS, build_study, load_records
from _report import finish
from training_throughput import find_data, save_prepared

from raysweep.data.idx import load_idx
from raysweep.data.images import PreparedData
from raysweep.data.records import Records, Split, split_stratified
from raysweep.data.sources.idx_files import load_idx_source
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process
from raysweep.train.report import EpochReport

NUM_IMAGES: dict[Split, int] = {"train": 1_000, "val": 1_000}
SEED = 0


def draw_images(records: Records, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeded images (N, 28, 28) uint8 and labels (N,), as many of each class as its share says."""
    _, rows = split_stratified(records.labels, num_images / len(records), SEED)
    drawn = records.take(rows)
    return load_idx(Path(drawn.paths[0]))[drawn.members], drawn.labels


def draw_params(study: Study, num: int) -> list[dict[str, Any]]:
    """Random points of the space, numbers rounded to 4 digits; a larger `num` begins with the same ones."""
    space = UnitCube(study.space)
    points = [space.to_params(row) for row in space.draw(np.random.default_rng(SEED), num)]
    return [{key: float(f"{v:.4g}") if type(v) is float else v for key, v in point.items()} for point in points]


def record(study: Study, data: PreparedData, number: int, params: dict[str, Any]) -> dict[str, Any]:
    """Trains one configuration; its line of the file."""
    values: list[float] = []
    clock = [time.process_time()]

    def keep(report: EpochReport) -> None:
        values.append(round(report.value, 4))
        clock.append(time.process_time())

    fit(study.trial_config(params, number), data, study.objective, report=keep)
    return {"number": number, "params": params, "accuracy": values, "seconds": np.diff(clock).round(3).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="Fashion-MNIST's idx files")
    parser.add_argument("--configurations", type=int, default=120, help="default %(default)s")
    parser.add_argument("--out", type=Path, default=RECORDS, help="default %(default)s")
    parser.add_argument("--for", dest="seconds", type=float, default=float("inf"), help="stop after so many seconds")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    prepare_process(1)
    study = build_study(args.configurations, SEED)
    source = load_idx_source(find_data(args.data), name="fashion-mnist", split_seed=study.data.split_seed)
    done = {row["number"] for row in load_records(args.out)}
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        splits: dict[str, tuple[np.ndarray, np.ndarray]] = {
            split: draw_images(source.records[split], num) for split, num in NUM_IMAGES.items()
        }
        data = save_prepared(Path(temporary) / "images", splits)
        for number, params in enumerate(draw_params(study, args.configurations)):
            if number in done:
                continue
            if time.monotonic() > deadline:
                print("not all is done: run this again")
                raise SystemExit(3)
            line = record(study, data, number, params)
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{number}: {line['accuracy'][-1]:.4f} in {sum(line['seconds']):.1f} CPU s", flush=True)
    finish("record_curves", ratios={}, n=args.configurations)


if __name__ == "__main__":
    main()
