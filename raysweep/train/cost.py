"""The cost of a trial's model where it is used: a second objective beside what the model achieves."""

import time

import numpy as np
import torch

from raysweep.config import COSTS, Objective
from raysweep.data.batches import Worker
from raysweep.train.state import TrainState
from raysweep.train.task import Task
from raysweep.trial_config import TrialConfig

NUM_WARMUPS, NUM_REPEATS = 5, 30


def find_costs(
    task: Task, state: TrainState, config: TrialConfig, worker: Worker, objective: Objective | None
) -> dict[str, float]:
    """Measures the objective, where it is one of COSTS, before the first epoch: the same for all, also when resumed."""
    metric = objective.metric if objective is not None else ""
    if metric not in COSTS:
        return {}
    return {metric: state.history[0][metric] if state.history else measure_cost(metric, task, state, config, worker)}


def measure_cost(metric: str, task: Task, state: TrainState, config: TrialConfig, worker: Worker) -> float:
    """Measures one of COSTS of the task's main module.

    `model/num_parameters`: all its parameters, frozen ones too. `model/latency_ms`: milliseconds for one image at
    batch 1 on the trial's device, from the normalised image to what the model is used for; the median of NUM_REPEATS.
    It is noisy: other trials may run beside it, and the nodes of a cluster may differ.
    """
    module = state.best_modules()[task.main_module]
    if metric == "model/num_parameters":
        return float(sum(parameter.numel() for parameter in module.parameters()))
    assert metric == "model/latency_ms", metric
    image = torch.zeros(1, config.data.channels, config.data.image_size, config.data.image_size, device=worker.device)
    durations_s = []
    for _ in range(NUM_WARMUPS + NUM_REPEATS):
        began = time.perf_counter()
        task.infer(module, image)
        if worker.device.type == "cuda":
            torch.cuda.synchronize(worker.device)
        durations_s.append(time.perf_counter() - began)
    return round(1000 * float(np.median(durations_s[NUM_WARMUPS:])), 4)
