"""NSGA-II, a genetic algorithm for one objective or several."""

from optuna.samplers import BaseSampler, NSGAIISampler

from raysweep.study import Study


def build(study: Study, num_trials: int) -> BaseSampler:
    """Builds Optuna's NSGAIISampler, with a fifth of the budget as its population, from 4 to 50."""
    population_size = min(50, max(4, study.budget.trials // 5))
    return NSGAIISampler(population_size=population_size, seed=study.seed + num_trials)
