"""Owns the paths in a run's folder: no other module joins one. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Names the files from which a model that was kept is rebuilt: `best/` of a run, for one."""

    path: Path

    @property
    def weights(self) -> Path:
        """Locates the modules' parameters and buffers."""
        return self.path / "model.safetensors"

    @property
    def config(self) -> Path:
        """Locates the configuration of the trial that the model is from."""
        return self.path / "config.json"

    @property
    def detector(self) -> Path:
        """Locates what rejects images that are of none of the classes."""
        return self.path / "detector.safetensors"

    def code(self, name: str, digest: str) -> Path:
        """Locates a file of Python that the configuration names, by its SHA-256."""
        return self.path / "code" / f"{digest[:12]}_{name}"

    def list_code(self) -> list[Path]:
        """Lists the files of Python that are kept with the model."""
        return sorted((self.path / "code").glob("*.py"))

    @property
    def digest(self) -> Path:
        """Locates what says that the other files are those that were kept together."""
        return self.path / "digest.json"


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """Names the files of one trial."""

    path: Path

    @property
    def number(self) -> int:
        """Returns the trial's number, which its folder is named after."""
        return int(self.path.name)

    @property
    def config(self) -> Path:
        """Locates the number, the point and the whole configuration."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """Locates the metrics, one line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """Locates the folder with what the trial needs to go on, while it runs."""
        return self.path / "last"

    @property
    def checkpoint(self) -> Path:
        """Locates the whole state of training after the last epoch."""
        return self.last / "checkpoint.safetensors"

    @property
    def previous_checkpoint(self) -> Path:
        """Locates the checkpoint of the epoch before, for where that of the last is damaged."""
        return self.last / "previous.safetensors"

    @property
    def best(self) -> Path:
        """Locates the folder of the best epoch's model, which retention may remove."""
        return self.path / "best"

    @property
    def weights(self) -> Path:
        """Locates the best epoch's weights."""
        return self.best / "model.safetensors"

    @property
    def samples(self) -> Path:
        """Locates the folder of images that the task shows of its progress."""
        return self.path / "samples"

    def sample(self, epoch: int) -> Path:
        """Locates the images of an epoch."""
        return self.samples / f"epoch_{epoch:04d}.png"

    @property
    def usage(self) -> Path:
        """Locates what the trial takes of its node, where that was measured."""
        return self.path / "usage.json"

    @property
    def error(self) -> Path:
        """Locates the traceback of a trial that failed."""
        return self.path / "error.txt"

    @property
    def notices(self) -> Path:
        """Locates what a person should know of how the trial was trained, a sentence a line; there where it is."""
        return self.path / "notices.txt"

    @property
    def stop_file(self) -> Path:
        """Locates the file after whose appearance a trial ends with its epoch."""
        return self.path / "stop"


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """Names the files of trials that are run together: a search's, the finalists' or a probe's."""

    path: Path

    @property
    def trials(self) -> Path:
        """Locates the folder of all trials; there once one has begun."""
        return self.path / "trials"

    def trial(self, number: int) -> TrialFolder:
        """Returns the folder of a trial."""
        return TrialFolder(self.trials / f"{number:04d}")

    def list_trials(self) -> list[TrialFolder]:
        """Lists the folders of all trials that have a configuration, by number."""
        return [TrialFolder(path.parent) for path in sorted(self.trials.glob("*/config.json"))]

    @property
    def number_formats(self) -> Path:
        """Locates the folder of what `training.precision=auto` is for each network."""
        return self.path / "number_formats"

    @property
    def journal(self) -> Path:
        """Locates the Optuna study, where it is in no database."""
        return self.path / "optuna.journal"

    @property
    def scratch(self) -> Path:
        """Locates Ray's own files while trials run on several nodes."""
        return self.path / ".ray"


@dataclass(frozen=True, slots=True)
class RetrainingFolder(SearchFolder):
    """Names the files of trials of the search that were trained again."""

    @property
    def number_formats(self) -> Path:
        """Locates that of the search: its networks are trained again as they were."""
        return self.path.parent / "number_formats"


@dataclass(frozen=True, slots=True)
class FinalistsFolder(RetrainingFolder):
    """Names the files of the best configurations trained again, and of the baseline beside them."""

    @property
    def baseline(self) -> ModelFolder:
        """Returns the model of the baseline's best seed."""
        return ModelFolder(self.path / "baseline")


@dataclass(frozen=True, slots=True)
class RunFolder(SearchFolder):
    """Names all files of a run."""

    @property
    def study(self) -> Path:
        """Locates the study as resolved, and what identifies the run."""
        return self.path / "study.json"

    def describe_interruption(self, resume: str) -> str:
        """Says that the run was interrupted and, where there is one to go on with, how: by `resume`."""
        if not self.study.is_file():
            return "interrupted"
        return f"interrupted; what is done is stored in {self.path}: go on with {resume}"

    @property
    def results(self) -> Path:
        """Locates the results; there once the run is finished."""
        return self.path / "results.json"

    @property
    def untold(self) -> Path:
        """Locates the mark of results that not all who follow the run have been told of."""
        return self.path / ".untold"

    @property
    def report(self) -> Path:
        """Locates the page that tells all of the run, written anew while it goes on."""
        return self.path / "report.html"

    @property
    def best(self) -> ModelFolder:
        """Returns the best model of the run."""
        return ModelFolder(self.path / "best")

    @property
    def export(self) -> Path:
        """Locates the folder for the best model in other formats, where it was exported."""
        return self.path / "export"

    @property
    def test(self) -> Path:
        """Locates the folder of texts and figures of the final evaluation, which names them."""
        return self.path / "test"

    @property
    def openings(self) -> Path:
        """Locates the record of each opening of the test split."""
        return self.test / "openings.jsonl"

    @property
    def pareto_front(self) -> Path:
        """Locates the figure of a study with two objectives."""
        return self.test / "pareto_front.png"

    @property
    def finalists(self) -> FinalistsFolder:
        """Returns the folder of the best configurations trained again."""
        return FinalistsFolder(self.path / "finalists")

    @property
    def replays(self) -> RetrainingFolder:
        """Returns the folder of trials that were trained again as they were."""
        return RetrainingFolder(self.path / "replays")

    def find_training(self, number: int, finalist: int | None) -> TrialFolder:
        """Returns the folder of the training that a model is from: the trial's, or that of a `finalist`."""
        return self.trial(number) if finalist is None else self.finalists.trial(finalist)

    @property
    def lock(self) -> Path:
        """Locates the file whose lock keeps a second driver out."""
        return self.path / ".lease"

    @property
    def status(self) -> Path:
        """Locates what the run was doing a moment ago, for whoever looks, and how long it has searched."""
        return self.path / "status.json"

    @property
    def commands(self) -> Path:
        """Locates the folder of what was said to a running search, and its answers."""
        return self.path / ".commands"

    def command(self, name: str) -> Path:
        """Locates a command that the search has not seen yet."""
        return self.commands / f"{name}.json"

    def answer(self, name: str) -> Path:
        """Locates the answer to a command, until its sender has read it."""
        return self.commands / f"{name}.answer"

    def list_commands(self) -> list[str]:
        """Lists the names of commands that the search has not seen yet, in the order of their names."""
        return sorted(path.stem for path in self.commands.glob("*.json") if not path.name.startswith("."))

    @property
    def wandb(self) -> Path:
        """Locates W&B's own files, which it names itself."""
        return self.path / "wandb"

    @property
    def artifacts(self) -> Path:
        """Locates the pictures that optuna-dashboard shows, which it names itself."""
        return self.path / "artifacts"

    @property
    def tensorboard(self) -> Path:
        """Locates TensorBoard's event files, in folders named after the trials."""
        return self.path / "tensorboard"

    @property
    def mlflow(self) -> Path:
        """Locates MLflow's database and artifacts, where no server is named."""
        return self.path / "mlflow"

    @property
    def storage(self) -> Path:
        """Locates the folder that the run is in, beside other runs."""
        return self.path.parent

    @property
    def cache(self) -> Path:
        """Locates the decoded images, beside the run in its storage."""
        return cache_folder(self.storage)


def cache_folder(storage: Path) -> Path:
    """Locates what all runs in a storage share: decoded images, downloads, the built-in sample."""
    return storage / ".cache"
