"""The doctor's judgement: facts in, findings out. No Ray."""

import dataclasses
from typing import Any

import pytest

from raysweep.cluster import findings as checks
from raysweep.cluster.capacity import Node, Request
from raysweep.cluster.findings import Finding, NodeFacts

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.9.0"}
HEAD = NodeFacts(node_id="a", address="10.0.0.1", versions=VERSIONS, code="c0de", authenticated=True, visible_gpus=0)
WORKER = dataclasses.replace(HEAD, node_id="b", address="10.0.0.2")


def changed(**values: Any) -> list[NodeFacts]:
    return [HEAD, dataclasses.replace(WORKER, **values)]


GOOD = [
    checks.check_answers(["10.0.0.1", "10.0.0.2"], [], [Node(num_cpus=2), Node(num_cpus=2)]),
    checks.check_versions([HEAD, WORKER], VERSIONS),
    checks.check_code([HEAD, WORKER], "c0de"),
    checks.check_authentication([HEAD, WORKER], True),
    checks.check_dashboard("127.0.0.1:8265", in_pod=False),
    checks.check_dashboard("", in_pod=False),
    checks.check_dashboard("10.0.0.1:8265", in_pod=True),
    checks.check_storage("/shared", [HEAD, WORKER], []),
    checks.check_gpus(changed(visible_gpus=2), {"a": 0, "b": 2}),
    checks.check_gpus([HEAD, WORKER], {"a": 0, "b": 0}),
    checks.check_mps([HEAD, WORKER], Request()),
    checks.check_mps(changed(visible_gpus=1), Request(gpus_per_worker=1)),
    checks.check_mps(changed(visible_gpus=1, has_mps=True), Request(gpus_per_worker=0.25)),
    checks.check_resources([Node(num_cpus=2), Node(num_cpus=2)], Request(num_workers=2)),
    checks.check_placement_groups([]),
    checks.check_data("mnist", 4, [HEAD, WORKER]),
    checks.check_data("mnist", 0, [HEAD, WORKER]),
]

BAD = [
    (checks.check_answers(["10.0.0.1"], ["10.0.0.2"], []), "1 node of 2 run no task: 10.0.0.2", "ray logs"),
    (
        checks.check_versions(changed(versions={**VERSIONS, "ray": "2.59.0"}), VERSIONS),
        "10.0.0.2 has ray 2.59.0 (here 2.60.0)",
        "ray up",
    ),
    (
        checks.check_versions(changed(versions={"python": "3.12.1", "ray": "2.60.0"}), VERSIONS),
        "10.0.0.2 has python 3.12.1 (here 3.11.7), torch missing (here 2.9.0)",
        "ray up",
    ),
    (checks.check_code(changed(code="01d"), "c0de"), "imported on 10.0.0.2", "ray up"),
    (checks.check_authentication(changed(authenticated=False), True), "off: 10.0.0.2", "RAY_AUTH_MODE=token"),
    (checks.check_authentication([HEAD, WORKER], False), "off: here", "ray get-auth-token"),
    (
        checks.check_dashboard("10.0.0.1:8265", in_pod=False),
        "reached from outside at 10.0.0.1:8265",
        "--dashboard-host=127.0.0.1",
    ),
    (
        checks.check_storage("/local", changed(write_error="no folder /local/.doctor"), [("10.0.0.2", "10.0.0.1")]),
        "10.0.0.2 cannot write there (no folder /local/.doctor)",
        "--storage DIR",
    ),
    (
        checks.check_storage("/local", [HEAD, WORKER], [("10.0.0.2", "10.0.0.1")]),
        "10.0.0.2 does not see what 10.0.0.1 wrote",
        "--storage DIR",
    ),
    (checks.check_gpus(changed(visible_gpus=1), {"a": 0, "b": 2}), "Ray counts 2, torch sees 1", "nvidia-smi"),
    (
        checks.check_mps(changed(visible_gpus=1), Request(gpus_per_worker=0.25)),
        "trials are to share GPUs, and would take turns on 10.0.0.2",
        "setup_node.sh STORAGE mps",
    ),
    (
        checks.check_resources([Node(num_cpus=2)], Request(num_workers=4)),
        "the cluster's 1 node(s) hold 2",
        "lower --workers",
    ),
    (checks.check_placement_groups(["ab" * 18]), "1 of ended jobs", "--remove-leaked"),
    (
        checks.check_data("images", 9, changed(unreadable=["/home/x/1.jpg"])),
        "10.0.0.2 cannot read /home/x/1.jpg",
        "--data STORAGE/images",
    ),
]


@pytest.mark.parametrize("finding", GOOD, ids=lambda finding: finding.check)
def test_nothing_is_wrong(finding: Finding) -> None:
    assert finding.ok
    assert not finding.mend
    assert str(finding).startswith("ok ")
    assert "\n" not in str(finding)


@pytest.mark.parametrize(("finding", "text", "mend"), BAD, ids=lambda value: getattr(value, "check", ""))
def test_what_is_wrong_is_one_line_with_the_command_that_mends_it(finding: Finding, text: str, mend: str) -> None:
    assert not finding.ok
    assert text in finding.text
    assert mend in finding.mend
    assert str(finding).startswith("WRONG ")
    assert "\n" not in str(finding)


def test_many_nodes_that_do_not_see_each_other_are_three_and_a_number() -> None:
    unseen = [(f"10.0.0.{reader}", "10.0.0.1") for reader in range(2, 12)]
    finding = checks.check_storage("/local", [HEAD], unseen)
    assert finding.text.count("does not see") == 3
    assert "and 7 more" in finding.text


def test_a_placement_group_is_leaked_when_its_job_has_ended() -> None:
    living, ended = "0" * 28 + "05000000", "1" * 28 + "04000000"
    groups = {living: "CREATED", ended: "CREATED", "2" * 28 + "03000000": "REMOVED"}
    assert checks.find_leaked(groups, ["05000000"]) == [ended]
