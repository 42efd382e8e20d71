"""The test evaluation of a finished run, once more."""

import json
import os
from pathlib import Path
from typing import Any

from raysweep import atomic_files as files
from raysweep import config_fields as fields
from raysweep.cluster.connection import connect
from raysweep.config import DataConfig
from raysweep.data import pipeline
from raysweep.data.sources import load_source
from raysweep.errors import UsageError
from raysweep.evaluate.final import evaluate_final
from raysweep.search.session.identity import check_digest
from raysweep.search.session.lock import hold_lease


def evaluate_again(run: Path, data_root: Path | None) -> dict[str, Any]:
    """Evaluates the best model of a run again, on the same test images, and updates results.json.

    The decoded images come from the cache beside the run; where it is gone they are decoded again.

    Raises:
        UsageError: the folder is not that of a finished run, or a driver works in it.
        DataError: the images cannot be had, or are no longer the same.
    """
    if not (run / "results.json").is_file():
        raise UsageError(f"{run} is not the folder of a finished run: it has no results.json")
    stored = json.loads((run / "study.json").read_text(encoding="utf-8"))
    config = fields.from_json(DataConfig, stored["data"])
    source = load_source(config.source, split_seed=config.split_seed, storage=run.parent, data_root=data_root)
    cache = run.parent / ".cache"
    if not pipeline.is_prepared(source, config, cache):
        connect("local")
    data, test_folder = pipeline.prepare(source, config, cache)
    check_digest(stored, config.source, data.info.digest)
    with hold_lease(run):
        record = json.loads((run / "results.json").read_text(encoding="utf-8"))
        test = evaluate_final(
            run,
            test_folder,
            data=data,
            reason="evaluated again",
            num_threads=os.cpu_count() or 1,
            data_root=data_root,
        )
        files.write_json(run / "results.json", {**record, "test": test})
    return test
