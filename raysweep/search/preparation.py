"""Prepares what all trials of a search or a plan need: what one takes of the cluster, and decoded images."""

from pathlib import Path

from raysweep.cluster.capacity import Request, count_concurrent_trials, default_request, share_gpu
from raysweep.cluster.connection import connect, list_potential_nodes
from raysweep.config import check_config
from raysweep.data import pipeline
from raysweep.data.images import PreparedData
from raysweep.data.records import Source
from raysweep.errors import UsageError
from raysweep.search.options import RunOptions
from raysweep.search.preflight import check_graphs, check_models, print_notes
from raysweep.storage_faults import guard_work
from raysweep.study import Study


def size_trials(study: Study, options: RunOptions) -> tuple[Request, int]:
    """Connects to Ray and returns what a trial takes and how many can run side by side.

    Raises:
        UsageError: not even one fits, or GPUs are to be shared and there are none.
    """
    connect(options.address)
    nodes = list_potential_nodes()
    request: Request = check_config(
        lambda: default_request(
            nodes,
            num_workers=options.num_workers,
            cpus_per_worker=options.cpus_per_worker,
            gpus_per_worker=options.gpus_per_worker,
        ),
        "a trial's size",
    )
    check_graphs(study, request.num_workers, gpus_per_worker=request.gpus_per_worker)
    if options.trials_per_gpu is not None and not request.gpus_per_worker:
        raise UsageError(
            f"--trials-per-gpu {options.trials_per_gpu} needs a GPU, got none in the cluster; leave it out"
        )
    if options.trials_per_gpu not in (None, "auto"):
        request = share_gpu(request, nodes, int(options.trials_per_gpu), options.cpus_per_worker)
    return request, count_concurrent_trials(nodes, request)


def prepare_data(study: Study, options: RunOptions, source: Source) -> tuple[PreparedData, Path]:
    """Decodes the images unless they are, and returns them and the folder of the test split."""
    with guard_work(options.storage):
        data, test_folder = pipeline.prepare(source, study.data, options.run_folder.cache)
    print_notes(data.info.notes)
    study.task.prepare(data)
    check_models(study, data)
    return data, test_folder
