"""What a finished study prints on stdout."""

from collections import Counter
from pathlib import Path
from typing import Any

from raysweep.config import Objective, format_value
from raysweep.search.finalists.statistics import describe_finalists
from raysweep.search.pareto import describe_front

_ENDS = {"FAIL": "failed", "COMPLETE": "ended early", "PRUNED": "was stopped"}


def describe_results(record: dict[str, Any], run: Path) -> str:
    """The test report, and the content of results.json in a few lines for a person."""
    test, best, data = record["test"], record["best"], record["data"]
    counts = Counter(trial["state"] for trial in record["trials"])
    trials = f"{len(record['trials'])} trial{'s' * (len(record['trials']) != 1)}"
    metric = record["objective"]["metric"]
    lines = [
        (run / "test" / test["report"]).read_text(encoding="utf-8").rstrip(),
        "",
        f"{record['study']}: {trials}, {counts['COMPLETE']} complete, {counts['PRUNED']} "
        f"stopped early, {counts['FAIL']} failed, in {record['duration_s']:.0f} s",
        *(
            f"  trial {trial['number']} {_ENDS[trial['state']]}: {trial['error']}"
            for trial in record["trials"]
            if trial["error"]
        ),
        *(
            f"  trial {trial['number']} went on after the cluster lost a node, {trial['node_losses']} time(s)"
            for trial in record["trials"]
            if trial.get("node_losses")
        ),
        f"best: trial {best['number']}, {metric} {format_value(best['value'])} at epoch {best['best_epoch']}",
        *(f"  {key} = {value}" for key, value in best["params"].items()),
        *describe_finalists(record.get("finalists"), Objective(**record["objective"])),
        *describe_front(record),
        test["headline"],
        f"lift: {test['lift']['text']}",
        *([f"skipped {len(data['skipped'])} files that could not be decoded:"] if data["skipped"] else []),
        *(f"  {skipped['path']}: {skipped['reason']}" for skipped in data["skipped"]),
        *([f"epochs were limited to {record['max_epochs']} by --max-epochs"] if record["max_epochs"] else []),
        f"results: {run}",
        *([f"W&B runs are offline; to upload: {record['sync_command']}"] if record["sync_command"] else []),
    ]
    return "\n".join(lines)
