"""clusters/kuberay.yaml against the fields of KubeRay's RayJob, and what it promises: token, GPUs, shared storage.

KubeRay's schema comes in no Python package; the fields below are those of its API reference for ray.io/v1.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from raysweep.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
JOB = yaml.safe_load((ROOT / "clusters/kuberay.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]

Fields = dict[str, Any]
CONTAINER: Fields = {
    "name": str,
    "image": str,
    "workingDir": str,
    "env": [{"name": str, "value": str, "valueFrom": {"secretKeyRef": {"name": str, "key": str, "optional": bool}}}],
    "resources": {
        kind: {"cpu": str, "memory": str, "nvidia.com/gpu": int, "ephemeral-storage": str}
        for kind in ("limits", "requests")
    },
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}
TEMPLATE: Fields = {
    "spec": {
        "containers": [CONTAINER],
        "volumes": [
            {"name": str, "persistentVolumeClaim": {"claimName": str}, "emptyDir": {"medium": str, "sizeLimit": str}}
        ],
        "tolerations": [{"key": str, "operator": str, "effect": str, "value": str}],
        "nodeSelector": {str: str},
        "securityContext": {"runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "fsGroup": int},
    }
}
HEAD: Fields = {"rayStartParams": {str: str}, "serviceType": str, "enableIngress": bool, "template": TEMPLATE}
WORKERS: Fields = {
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "idleTimeoutSeconds": int,
    "rayStartParams": {str: str},
    "template": TEMPLATE,
}
RAY_JOB: Fields = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str, "labels": {str: str}},
    "spec": {
        "entrypoint": str,
        "entrypointNumCpus": (int, float),
        "entrypointNumGpus": (int, float),
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "submissionMode": str,
        "runtimeEnvYAML": str,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": str, "secretName": str},
            "enableInTreeAutoscaling": bool,
            "headGroupSpec": HEAD,
            "workerGroupSpecs": [WORKERS],
        },
    },
}


def list_violations(value: Any, fields: Any, where: str = "RayJob") -> list[str]:
    """What in `value` is not of `fields`: an unknown name, or another type. bool is no int."""
    if isinstance(fields, list):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [
            error for index, item in enumerate(value) for error in list_violations(item, fields[0], f"{where}[{index}]")
        ]
    if not isinstance(fields, dict):
        kinds = fields if isinstance(fields, tuple) else (fields,)
        return [] if type(value) in kinds else [f"{where} is {value!r}"]
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    errors = []
    for key, item in value.items():
        known = fields.get(key, fields.get(str))
        errors += [f"{where} has no {key}"] if known is None else list_violations(item, known, f"{where}.{key}")
    return errors


def test_it_has_the_fields_of_a_ray_job() -> None:
    assert list_violations(JOB, RAY_JOB) == []
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "rayClusterSpec", "rayVersion"), 2.6),
        (("spec", "shutdownAfterJobFinishes"), "true"),
        (("spec", "backOffLimit"), 0),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
    ],
)
def test_a_wrong_field_is_found(path: tuple[str, ...], value: Any) -> None:
    job = yaml.safe_load((ROOT / "clusters/kuberay.yaml").read_text())
    place = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert len(list_violations(job, RAY_JOB)) == 1


def test_ray_is_the_project_s() -> None:
    pinned = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert pinned is not None
    assert CLUSTER["rayVersion"] == pinned[1]


def test_every_pod_asks_for_the_token() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert CLUSTER["headGroupSpec"].get("serviceType", "ClusterIP") == "ClusterIP"
    assert not CLUSTER["headGroupSpec"].get("enableIngress")


def test_the_wandb_key_comes_from_a_secret_to_the_driver_alone() -> None:
    for group in GROUPS:
        (container,) = group["template"]["spec"]["containers"]
        keys = [entry for entry in container["env"] if "KEY" in entry["name"]]
        assert all("value" not in entry for entry in keys)
        assert bool(keys) == (group is CLUSTER["headGroupSpec"])


def test_trials_run_on_gpu_workers_and_not_on_the_head() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in CLUSTER["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_all_pods_share_the_storage_the_command_names() -> None:
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "platform.tune"]
    options = {option for parameter in COMMANDS.load("tune").params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    storage = words[words.index("--storage") + 1]
    for group in GROUPS:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert Path(storage).is_relative_to(mounts["storage"])
        claims = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        assert [volume["name"] for volume in claims] == ["storage"]
        assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
        assert container["resources"]["limits"] == container["resources"]["requests"]
