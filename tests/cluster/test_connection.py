"""What goes along with a job, and which network its workers talk over. No cluster."""

import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from ray._common.utils import load_class

from raysweep.cluster.code import code_digest, package_folders
from raysweep.cluster.connection import find_address, job_environment, prepare_worker
from raysweep.cluster.local_ray import find_interface
from raysweep.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
Address = namedtuple("Address", "address")
INTERFACES = {
    "lo": [Address("127.0.0.1"), Address("::1")],
    "eth0": [Address("10.0.0.2"), Address("fe80::1%eth0")],
    "docker0": [Address("172.17.0.1")],
}


@pytest.mark.parametrize(
    ("address", "interface"), [("10.0.0.2", "eth0"), ("127.0.0.1", "lo"), ("fe80::1%eth0", "eth0"), ("10.0.0.3", None)]
)
def test_the_interface_is_the_one_with_the_node_s_address(address: str, interface: str | None) -> None:
    assert find_interface(address, INTERFACES) == interface


def test_a_job_takes_this_checkout_s_packages_along() -> None:
    assert [Path(folder) for folder in package_folders()] == [ROOT / "raysweep", ROOT / "search_spaces"]
    assert job_environment()["py_modules"] == package_folders()


def test_ray_finds_what_workers_start_with() -> None:
    assert load_class(job_environment()["worker_process_setup_hook"]) is prepare_worker


def test_the_digest_is_of_the_code() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 12


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Writes the address that `ray start` leaves behind."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return (tmp_path / "ray" / "ray_current_cluster").write_text


def test_without_a_cluster_a_local_ray_is_started(begun: Callable[[str], int]) -> None:
    assert find_address(None) is None
    assert find_address("local") is None


def test_the_cluster_that_began_here_is_found(begun: Callable[[str], int]) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        begun(f"127.0.0.1:{port}")
        found = find_address(None)
        assert found is not None
        assert found.endswith(f":{port}")


def test_a_crashed_cluster_s_address_does_not_keep_a_local_ray_from_starting(
    begun: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    begun(closed_port())
    assert find_address(None) is None
    assert "nothing answers there now: starting a local Ray" in capsys.readouterr().err


def test_an_address_that_was_asked_for_must_answer(
    begun: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no Ray cluster answers at"):
        find_address(closed_port())
    monkeypatch.setenv("RAY_ADDRESS", closed_port())
    with pytest.raises(UsageError, match="no Ray cluster answers at"):
        find_address(None)


@pytest.mark.parametrize("address", ["ray://head:10001", "head"])
def test_an_address_is_a_host_and_a_port(begun: Callable[[str], int], address: str) -> None:
    with pytest.raises(UsageError, match="must be HOST:PORT of a cluster's head"):
        find_address(address)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
