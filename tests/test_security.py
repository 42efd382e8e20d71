"""The claims of SECURITY.md that no other test holds: ports, tokens, folders, modes of files, code that is not run."""

import os
import re
import stat
import subprocess
import sys
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from raysweep import atomic_files
from raysweep.cluster import local_ray
from raysweep.cluster.connection import job_environment
from raysweep.commands.predict import predict
from raysweep.data.sources.image_folder import load_folder
from raysweep.errors import DataError, UsageError, escape_controls
from raysweep.run_folder import RunFolder
from raysweep.search.session.storage import has_password, hide_password, open_storage

ROOT = Path(__file__).resolve().parents[1]


def get_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Ports


def list_listeners() -> list[tuple[str, str]]:
    """Lists address and process of each socket on which this process and its children listen."""
    own = psutil.Process()
    found = []
    for process in [own, *own.children(recursive=True)]:
        try:
            sockets = process.net_connections("inet")
            found += [(entry.laddr.ip, process.name()) for entry in sockets if entry.status == psutil.CONN_LISTEN]
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.ray
def test_a_local_ray_listens_on_loopback_alone(ray_local: None) -> None:
    import ray

    assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()  # a worker is there
    listeners = list_listeners()
    assert {"gcs_server", "raylet"} <= {name for _, name in listeners}
    elsewhere = [entry for entry in listeners if entry[0].removeprefix("::ffff:") not in ("127.0.0.1", "::1")]
    assert not elsewhere, "SECURITY.md names no such port"


@pytest.mark.ray
def test_a_local_ray_takes_no_command_without_its_token(ray_local: None) -> None:
    import grpc  # type: ignore[import-untyped]
    import ray
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoRequest  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    ask: Any = NodeInfoGcsServiceStub(grpc.insecure_channel(ray.get_runtime_context().gcs_address)).GetAllNodeInfo
    for header in (None, [("authorization", "Bearer " + "0" * 64)]):
        with pytest.raises(grpc.RpcError) as caught:
            ask(GetAllNodeInfoRequest(), timeout=10, metadata=header)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.ray
def test_a_local_ray_s_folder_is_closed_to_other_users(ray_local: None) -> None:
    from ray._private import worker

    node: Any = worker._global_node
    session = Path(node.get_session_dir_path())
    closed = [folder for folder in session.parents if get_mode(folder) == 0o700 and folder.stat().st_uid == os.getuid()]
    assert local_ray.make_folder().parent in closed


def test_ray_s_switch_for_loopback_is_where_it_is_looked_for() -> None:
    from ray._private import ray_constants, services, worker

    assert ray_constants.ENABLE_RAY_CLUSTER is (sys.platform == "linux")
    before = ray_constants.ENABLE_RAY_CLUSTER
    with local_ray.on_loopback():
        if worker._global_node is None:
            assert services.get_node_ip_address() == local_ray.LOOPBACK
    assert ray_constants.ENABLE_RAY_CLUSTER is before


# Secrets and folders


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in local_ray.TOKEN_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def test_the_token_is_its_owner_s_alone_and_stays_the_same(home: Path) -> None:
    local_ray.protect_token()
    token = home / local_ray.TOKEN
    text = token.read_text()
    assert len(text) == 64
    assert get_mode(token) == 0o600
    token.chmod(0o644)  # as Ray writes it
    local_ray.protect_token()
    assert get_mode(token) == 0o600
    assert token.read_text() == text
    assert [path.name for path in token.parent.iterdir()] == [token.name]


@pytest.mark.parametrize("variable", local_ray.TOKEN_VARIABLES)
def test_no_token_is_made_where_the_environment_has_one(
    variable: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    local_ray.protect_token()
    assert not (home / ".ray").exists()


def test_the_folder_of_a_local_ray_is_made_for_its_owner_alone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_ray, "MAX_FOLDER_BYTES", 200)
    base = tmp_path_factory.mktemp("base")
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    assert get_mode(local_ray.make_folder().parent) == 0o700
    local_ray.make_folder().parent.chmod(0o777)
    assert get_mode(local_ray.make_folder().parent) == 0o700


def test_a_link_in_the_place_of_a_local_ray_s_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_ray, "MAX_FOLDER_BYTES", 200)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"ray-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="must be one's own"):
        local_ray.make_folder()


def test_a_socket_s_path_stays_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/a/folder/with/a/name/that/is/too/long/for/a/socket")
    assert local_ray.make_folder() == Path(f"/tmp/ray-{os.getuid()}/ray")


def test_the_socket_of_reports_is_in_a_folder_of_its_owner_alone() -> None:
    with Listener(family="AF_UNIX") as listener:  # as train/trial.py opens it
        assert get_mode(Path(str(listener.address)).parent) == 0o700


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "nodb://me:s3cr3t@host/name",
        "postgresql://me:s3cr3t@host:port/name",
        "postgresql://me:pa@s3cr3t@host/name",
        "postgresql://me:s3cr3t",
        "me:s3cr3t@host/name",
        "nodb://host/name?password=s3cr3t&mode=rw",
        "nodb://host/name?sslkey=s3cr3t",
        "s3cr3t",
    ],
)
def test_a_password_in_a_storage_s_url_is_not_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--optuna-storage") as caught:
        open_storage(RunFolder(tmp_path), url)
    assert SECRET not in str(caught.value) + hide_password(url)
    assert has_password(url)
    assert hide_password(hide_password(url)) == hide_password(url), "a stored URL stays the same"


def test_a_url_without_a_password_is_stored_as_it_is() -> None:
    for url in ("sqlite:////shared/optuna.db", "postgresql://me@host:5432/name?sslmode=require"):
        assert hide_password(url) == url
        assert not has_password(url)


def test_no_key_travels_with_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "KAGGLE_KEY", "HF_TOKEN", "PGPASSWORD", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    assert SECRET not in str(job_environment())


# Modes of files

WRITE = """
import os, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from raysweep import atomic_files
os.umask(int(sys.argv[1], 8))
folder = Path(sys.argv[2]) / "new"
atomic_files.write_json(folder / "values.json", {})
atomic_files.write_atomically(folder / "weights", lambda path: save_file({"a": torch.zeros(2)}, path))
"""


@pytest.mark.parametrize("umask", ["022", "027", "002", "077"])
def test_files_and_folders_have_the_modes_that_the_umask_leaves(umask: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE, umask, str(tmp_path)], check=True, cwd=ROOT)
    left = ~int(umask, 8)
    assert get_mode(tmp_path / "new") == 0o777 & left
    assert {path.name: get_mode(path) for path in (tmp_path / "new").iterdir()} == {
        "values.json": 0o666 & left,
        "weights": 0o666 & left,
    }


def test_a_file_that_is_written_again_gets_the_rule_s_mode(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save_file({"a": torch.zeros(2)}, path)
    before = get_mode(path)
    atomic_files.write_atomically(path, lambda new: save_file({"a": torch.zeros(2)}, new))
    (tmp_path / "plain").touch()
    assert get_mode(path) == get_mode(tmp_path / "plain")
    assert before == 0o600, "safetensors no longer hides files: the rule's reason is gone"


# Code that is not run


def test_nothing_on_disk_is_unpickled_and_no_text_is_run() -> None:
    """pickle is for messages between own processes alone; eval, a shell and YAML's objects are nowhere."""
    runs_text = re.compile(
        r"\beval\(|\bexec\(|shell=True|os\.system|yaml\.(load|unsafe_load|full_load)\(|allow_pickle=True|"
        r"torch\.load\((?!.*weights_only=True)|joblib|extractall|pickle\.load\("
    )
    unpickles = re.compile(r"pickle\.loads\(")
    found: dict[str, list[str]] = {"runs": [], "unpickles": []}
    for path in sorted((ROOT / "raysweep").rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            name = str(path.relative_to(ROOT / "raysweep"))
            if runs_text.search(line.replace(".eval(", "")):
                found["runs"].append(f"{name}: {line}")
            if unpickles.search(line):
                found["unpickles"].append(name)
    assert found == {"runs": [], "unpickles": ["train/report.py", "train/trial.py"]}


# Names


@pytest.mark.parametrize("name", ["\x1b[2Jcleared", "two\nlines", "bell\x07"])
def test_a_class_whose_name_commands_a_terminal_is_refused(name: str, tmp_path: Path, make_image_folder: Any) -> None:
    make_image_folder(tmp_path / "images", ["plain", name], 3)
    with pytest.raises(DataError, match="printable characters") as caught:
        load_folder(tmp_path / "images", name="images", split_seed=0)
    assert str(caught.value).isprintable()


def test_a_message_commands_no_terminal() -> None:
    assert escape_controls("a\x1b[2J\x07\x9b b\n\tç") == "a\\x1b[2J\\x07\\x9b b\n        ç"


def test_predict_prints_no_escape_of_a_file_s_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(predict, [str(tmp_path), "\x1b[2J.png"])
    assert "\x1b" not in result.output


# What SECURITY.md says is tested


def test_each_test_that_security_md_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) >= 15
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, (file, test)
