"""Defines the options of a run: where and how a study runs."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import PositiveInt

from raysweep.config import TrackerName, WandbMode, require
from raysweep.errors import UsageError, shorten
from raysweep.run_folder import RunFolder
from raysweep.search.flags import NO_FLAG, flag
from raysweep.search.overrides import Overrides

DEFAULT_STORAGE = Path("results")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Says where and how a study runs. Each field is a flag of `tune`, unless it has NO_FLAG."""

    storage: Path = DEFAULT_STORAGE
    """Where runs and the cache of decoded images are kept; on a cluster a path all nodes share."""
    name: str
    """The run's folder under storage; default: the study's name."""
    resume: bool = False
    """Go on where the run stopped; with a larger --trials, extend it."""
    allow_space_change: bool = False
    """Go on with another search space and the trials that fit it."""
    optuna_storage: str | None = field(default=None, metadata=flag(metavar="URL"))
    """A database for the Optuna study; default: a file in the run's folder."""
    address: str | None = field(default=None, metadata=flag(metavar="ADDR"))
    """A Ray cluster; default: the one running here or in RAY_ADDRESS, else a local one; `local` forces that."""
    num_workers: PositiveInt = field(default=1, metadata=flag("--workers"))
    """Workers of one trial; above 1: DDP."""
    cpus_per_worker: float | None = None
    """Default: 1, or the share of a GPU."""
    gpus_per_worker: float | None = None
    """Default: 1 where there are any."""
    trials_per_gpu: str | None = field(default=None, metadata=flag(metavar="auto|N"))
    """Trials that share each GPU: so many, or as many as fit by a short probe, which no GPU has seen; default: 1."""
    wandb: WandbMode | None = None
    """Default: online with a key, else offline."""
    trackers: tuple[TrackerName, ...] = ()
    """Records the search there too, beside W&B; may be repeated."""
    observers: tuple[str, ...] = ()
    """Also told of each event: an entry point of `raysweep.observers` or path/to/file.py:Name; may be repeated."""
    notify: tuple[str, ...] = field(default=(), metadata=flag(metavar="URL"))
    """Who is told of the end, a failure and each new best: a URL of Apprise (extra `notify`), such as
    mailto://USER:PASSWORD@HOST; may be repeated."""
    quiet: bool = False
    """Say nothing of its progress on stderr; notes, warnings and errors stay."""
    overrides: Overrides = field(default=Overrides(), metadata=NO_FLAG)
    """What was changed of the study, for the record."""
    study_argument: str | None = field(default=None, metadata=NO_FLAG)
    """What the study was loaded by, for the record: a name in search_spaces/, or the absolute path of its file."""
    data_root: Path | None = field(default=None, metadata=NO_FLAG)
    """A folder that may hold mnist/ and fashion-mnist/."""

    def __post_init__(self) -> None:
        for name in ("address", "optuna_storage"):
            value = getattr(self, name)
            require(value is None or bool(value.strip()), f"--{name.replace('_', '-')} must not be empty", value)
        cpus, gpus = self.cpus_per_worker, self.gpus_per_worker
        require(cpus is None or 0 < cpus < math.inf, "--cpus-per-worker must be a number above 0", cpus)
        require(gpus is None or 0 <= gpus < math.inf, "--gpus-per-worker must be a number, 0 or more", gpus)
        shared = self.trials_per_gpu
        is_number = shared is not None and re.fullmatch(r"[1-9][0-9]{0,2}", shared) is not None
        require(
            shared in (None, "auto") or is_number, "--trials-per-gpu must be auto or a number from 1 to 999", shared
        )
        rule = "--trials-per-gpu says what --gpus-per-worker says, and is for trials of one worker: leave one out"
        require(shared is None or (gpus is None and self.num_workers == 1), rule, (shared, gpus, self.num_workers))

    @property
    def run_folder(self) -> RunFolder:
        """Returns the run's folder, the one place where its name becomes a path.

        Raises:
            UsageError: the name is none of a folder.
        """
        return RunFolder(self.storage / check_name(self.name))

    def check_folder(self) -> None:
        """Fails where the run's folder is there and is not to be gone on with.

        Raises:
            UsageError: it is so.
        """
        path = self.run_folder.path
        if path.exists() and not self.resume:
            raise UsageError(f"{path} exists; go on with it with --resume, or give another --name or --storage")


def check_name(name: str) -> str:
    """Returns the name of a run, which becomes a folder's.

    Raises:
        UsageError: it is longer than a name, or has other characters than letters, digits, `.`, `_` and `-`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            "--name is a folder's name, by default the study's, of at most 100 letters, digits, '.', '_' and '-', "
            f"the first a letter, digit or '_', got {shorten(repr(name))}"
        )
    return name
