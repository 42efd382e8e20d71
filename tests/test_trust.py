"""A run's folder runs no code of its own: what it names is refused unless the caller has named or trusted it."""

import json
from pathlib import Path

import pytest
import torch

from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.images import DataInfo
from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate.stored_model import import_code, load_model
from raysweep.run_folder import RunFolder
from raysweep.search.start import resolve_search
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import save_config

INFO = DataInfo(source="s", synthetic=False, digest="d", classes=("a", "b"), num_train=4, num_val=2, num_test=2)
CODE = """
from pathlib import Path
from raysweep.tasks.classification.config import ClassificationConfig as Config
Path(__file__).with_suffix(".ran").touch()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose best model names code in a file; its weights are no weights."""
    folder = RunFolder(tmp_path / "run")
    config = TrialConfig(
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(image_size=28, channels=1, normalization="symmetric"),
        training=TrainingConfig(),
    )
    save_config(folder.best.config, 0, config, INFO, {})
    folder.best.weights.write_bytes(b"none")
    (tmp_path / "code.py").write_text(CODE)
    values = json.loads(folder.best.config.read_text())
    values["config"]["task"]["kind"] = f"{tmp_path}/code.py:Config"
    del values["checksum"]
    folder.best.config.write_text(json.dumps(values))
    return folder


def test_the_code_that_a_model_names_is_not_run(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"reading a run runs no code; .*--trust-code"):
        load_model(run.best.weights, run.best.config, torch.device("cpu"))
    assert not (tmp_path / "code.ran").exists()


def test_trusted_code_is_run(run: RunFolder, tmp_path: Path) -> None:
    import_code(run)
    assert (tmp_path / "code.ran").exists()
    with pytest.raises(CorruptFileError):  # now it is the weights
        load_model(run.best.weights, run.best.config, torch.device("cpu"))


def test_what_is_no_configuration_of_a_task_is_refused() -> None:
    values = {"task": {"kind": "os:getcwd"}, "data": {}, "training": {}, "seed": 0}
    with pytest.raises(UsageError, match=r"must be a dataclass on raysweep\.TaskConfig, got os:getcwd"):
        TrialConfig.from_json(values, trusted=True)


@pytest.mark.parametrize("field", ["sampler", "pruner", "data"])
def test_the_code_that_a_run_names_has_to_be_named_again_to_go_on(field: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    folder = RunFolder(tmp_path / "results" / "mine")
    folder.path.mkdir(parents=True)
    stored = {"overrides": {field: f"{tmp_path}/code.py:Config"}}
    identity = {"run_id": "r", "optuna": {"study_name": "s", "storage": None}}
    folder.study.write_text(json.dumps({**stored, **identity, "data_digest": "d", "versions": {}}))
    with pytest.raises(UsageError, match=f"reading a run runs no code; name it again with --{field} "):
        resolve_search("fashion_cnn", {"storage": folder.storage, "name": "mine", "resume": True})
    assert not (tmp_path / "code.ran").exists()


def test_a_network_that_a_run_names_has_to_be_named_again_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    folder = RunFolder(tmp_path / "results" / "mine")
    folder.path.mkdir(parents=True)
    setting = f"task.model={tmp_path}/code.py:Config"
    identity = {"run_id": "r", "optuna": {"study_name": "s", "storage": None}}
    stored = {"overrides": {"settings": [setting]}, **identity, "data_digest": "d", "versions": {}}
    folder.study.write_text(json.dumps(stored))
    with pytest.raises(UsageError, match=r"reading a run runs no code; name it again with --set task\.model="):
        resolve_search("fashion_cnn", {"storage": folder.storage, "name": "mine", "resume": True})
    assert not (tmp_path / "code.ran").exists()
