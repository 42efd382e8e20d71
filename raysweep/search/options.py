"""Defines the options of a run: where and how a study runs."""

from dataclasses import dataclass
from pathlib import Path

from raysweep.config import KEEP_LEADING
from raysweep.run_folder import RunFolder
from raysweep.search.overrides import Overrides
from raysweep.tracking import Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Says where and how a study runs."""

    storage: Path
    name: str
    resume: bool = False
    """Go on with the run of this name where there is one."""
    allow_space_change: bool = False
    """Go on even if the search space is another, with the trials that still fit."""
    optuna_storage: str | None = None
    """URL of a database for the Optuna study; none: a journal file in the run's folder."""
    overrides: Overrides = Overrides()  # noqa: RUF009 - immutable
    """What the command line changed of the study, for the record."""
    address: str | None = None
    """A Ray cluster; none: the one running here, else a local one; `local`: a local one."""
    num_workers: int = 1
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    keep_checkpoints: int = KEEP_LEADING
    """How many leading trials keep their models; at least 1."""
    wandb: Mode = "offline"
    observers: tuple[str, ...] = ()
    """Also told of each event: an entry point of `raysweep.observers` or path/to/file.py:Name; may be repeated."""
    data_root: Path | None = None
    """A folder that may hold mnist/ and fashion-mnist/."""

    @property
    def run_folder(self) -> RunFolder:
        """Returns the run's folder."""
        return RunFolder(self.storage / self.name)
