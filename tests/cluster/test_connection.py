"""What goes along with a job, and which network its workers talk over. No cluster."""

from collections import namedtuple
from pathlib import Path

import pytest
from ray._common.utils import load_class

from raysweep.cluster.code import code_digest, package_folders
from raysweep.cluster.connection import find_interface, job_environment, prepare_worker

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
def test_the_interface_is_the_one_with_the_node_s_address(address, interface):
    assert find_interface(address, INTERFACES) == interface


def test_a_job_takes_this_checkout_s_packages_along():
    assert [Path(folder) for folder in package_folders()] == [ROOT / "raysweep", ROOT / "search_spaces"]
    assert job_environment()["py_modules"] == package_folders()


def test_ray_finds_what_workers_start_with():
    assert load_class(job_environment()["worker_process_setup_hook"]) is prepare_worker


def test_the_digest_is_of_the_code():
    assert code_digest() == code_digest()
    assert len(code_digest()) == 12
