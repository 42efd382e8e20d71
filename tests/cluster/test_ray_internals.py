"""Each private part of Ray that raysweep uses is there, all are in one module, and the lack of one is one sentence."""

import ast
import importlib
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from packaging.requirements import Requirement
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.tune.execution.tune_controller import TuneController

from raysweep.cluster import ray_internals
from raysweep.cluster.connection import ENVIRONMENT
from raysweep.errors import UsageError
from raysweep.train.trial_failure import describe_error

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "ray._private:ray_constants.ENABLE_RAY_CLUSTER",
    "ray._private.services:canonicalize_bootstrap_address",
    "ray._private.services:find_bootstrap_address",
    "ray._private.node:Node.kill_all_processes",
    "ray._private.node:Node.dead_processes",
    "ray._private.node:Node.is_head",
    "ray._private.state:actors",
    "ray._private.state:jobs",
    "ray._private.state:state._connect_and_get_accessor",
    "ray._private.worker:get_dashboard_url",
    "ray._private.worker:print_to_stdstream",
    "ray._raylet:AuthenticationMode.TOKEN",
    "ray._raylet:GlobalStateAccessor.get_placement_group_table",
    "ray._raylet:get_authentication_mode",
    "ray.core.generated.common_pb2:NodeDeathInfo.AUTOSCALER_DRAIN_IDLE",
    "ray.core.generated.gcs_pb2:PlacementGroupTableData.REMOVED",
    "ray.air.execution._internal:RayActorManager.cleanup",
    "ray.train.v2._internal.exceptions:WorkerHealthCheckFailedError",
    "ray.train.v2._internal.exceptions:WorkerHealthCheckTimeoutError",
]
PRIVATE = re.compile(r"^ray\.(.*\.)?(_[a-z]|generated\.)")


@pytest.mark.parametrize("part", PARTS)
def test_this_ray_has(part: str) -> None:
    module, _, path = part.partition(":")
    assert operator.attrgetter(path)(importlib.import_module(module)) is not None


def test_this_ray_s_placement_groups_have_the_fields() -> None:
    fields = {field.name for field in PlacementGroupTableData.DESCRIPTOR.fields}
    used = {"placement_group_id", "creator_job_id", "creator_actor_id", "creator_actor_dead", "state"}
    assert used <= fields


def test_this_ray_s_tune_keeps_its_actors_where_they_are_killed() -> None:
    assert "_actor_manager" in TuneController.__init__.__code__.co_names


def test_this_ray_s_health_check_error_has_its_cause() -> None:
    cause = RuntimeError("a worker died")
    failed, _ = ray_internals.health_check_errors()
    assert describe_error(failed("unhealthy", cause)) == "RuntimeError: a worker died"


def test_this_ray_reads_the_environment_that_it_is_given() -> None:
    """Its Python reads a variable by its name; its C++ reads RAY_ and a name that is in the program."""
    package = Path(ray.__file__).parent
    python = "".join(
        path.read_text(encoding="utf-8")
        for part in ("air", "train", "tune", "_private")
        for path in (package / part).rglob("*.py")
    )
    raylet = (package / "core/src/ray/raylet/raylet").read_bytes()
    unread = [
        name for name in ENVIRONMENT if f'"{name}"' not in python and name.removeprefix("RAY_").encode() not in raylet
    ]
    assert unread == []


def find_private(path: Path) -> list[str]:
    """Names of what a file uses of Ray's own: what is imported, and attributes of Ray or of its controller."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if PRIVATE.match(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [name for alias in node.names if PRIVATE.match(name := f"{node.module}.{alias.name}")]
        elif isinstance(node, ast.Attribute) and (PRIVATE.match(ast.unparse(node)) or node.attr == "_actor_manager"):
            found.append(ast.unparse(node))
    return found


def test_they_are_used_in_one_module_only() -> None:
    users = [path.name for path in (ROOT / "raysweep").rglob("*.py") if find_private(path)]
    assert users == ["ray_internals.py"]


def test_each_that_is_imported_is_tested() -> None:
    imported = find_private(ROOT / "raysweep/cluster/ray_internals.py")
    tested = [part.replace(":", ".") for part in PARTS]
    assert len(imported) > 8
    assert [name for name in imported if name.startswith("ray.") and not any(p.startswith(name) for p in tested)] == []


@pytest.mark.parametrize(
    "part",
    [
        "ray._private.services:canonicalize_bootstrap_address",
        "ray._private.state:jobs",
        "ray._private.worker:get_dashboard_url",
    ],
)
def test_the_lack_of_one_is_one_sentence_of_the_command(part: str) -> None:
    module, _, name = part.partition(":")
    code = (
        f"import {module} as it; del it.{name}; from raysweep.cli import main; main(['doctor', '--address', 'local'])"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 2, process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"error: raysweep is known to work with Ray {ray_internals.KNOWN_VERSIONS}")
    assert name in line


def test_another_ray_tune_is_told_at_its_first_trial() -> None:
    with pytest.raises(UsageError, match=r"_actor_manager.*pip install"):
        ray_internals.get_trial_killer(object())


def test_the_versions_are_those_of_the_package() -> None:
    first, _, last = ray_internals.KNOWN_VERSIONS.partition(" to ")
    text = (ROOT / "pyproject.toml").read_text()
    requirement, *others = [Requirement(found) for found in re.findall(r'"(ray\[.*)"', text)]
    assert all(other.specifier == requirement.specifier for other in others)
    assert requirement.specifier.contains(f"{first}.0")
    assert requirement.specifier.contains(f"{last}.0")
    lowest, highest = (int(version.split(".")[1]) for version in (first, last))
    assert not requirement.specifier.contains(f"2.{lowest - 1}.9")
    assert not requirement.specifier.contains(f"2.{highest + 1}.0")
