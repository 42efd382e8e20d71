"""cluster.yaml and clusters/*.yaml: Ray's own schema and start-up steps take them, and what they promise holds.

No network: EC2 is moto's, up to the launch.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

ROOT = Path(__file__).resolve().parents[2]
LAUNCHED = ("cluster.yaml", "clusters/on_premises.yaml")
LOCK = (ROOT / "requirements.lock").read_text()


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return config


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==([^ ;\n]+)", LOCK, flags=re.MULTILINE)
    assert found is not None
    return found[1]


def start_commands(config: dict[str, Any]) -> dict[str, str]:
    return {
        kind: next(command for command in config[f"{kind}_start_ray_commands"] if "ray start" in command)
        for kind in ("head", "worker")
    }


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_takes_the_configuration(name: str) -> None:
    config = prepare_config(load(name))
    validate_config(config)
    # What Ray fills in by default installs a nightly Ray: none of it may be left.
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    assert not [command for command in commands if "pip install" in command or "ray-wheels" in command]


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_misspelt_key_is_refused(name: str) -> None:
    with pytest.raises(Exception, match="rsync_excludes"):
        validate_config(prepare_config({**load(name), "rsync_excludes": []}))


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_asks_for_the_token_and_has_it(name: str) -> None:
    config = load(name)
    for kind, command in start_commands(config).items():
        assert "RAY_AUTH_MODE=token" in command.split("ray start")[0], kind
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_dashboard_listens_on_the_head_alone(name: str) -> None:
    head = start_commands(load(name))["head"]
    assert "--dashboard-host=127.0.0.1" in head.split()


@pytest.mark.parametrize("kind", ["head", "worker"])
@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_start_knows_the_flags(name: str, kind: str) -> None:
    words = shlex.split(start_commands(load(name))[kind].split("ray start")[1])
    known = {option for parameter in start.params for option in parameter.opts}
    assert {word.split("=")[0] for word in words} <= known
    assert CliRunner().invoke(start, ["--help"]).exit_code == 0


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_travels_is_the_project_and_the_token(name: str) -> None:
    mounts = dict(load(name)["file_mounts"])
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert {remote: f"~/raysweep/{local}" for remote, local in mounts.items()} == {remote: remote for remote in mounts}
    assert not [local for local in mounts.values() if not (ROOT / local).exists()]
    # All that the set-up reads: a missing file would only be seen on the node.
    assert {"raysweep", "search_spaces", "platform", "clusters", "pyproject.toml", "requirements.lock"} <= {
        *mounts.values()
    }
    for named in re.findall(r'^(?:readme = |license-files = \[)"(.*?)"', (ROOT / "pyproject.toml").read_text(), re.M):
        assert named in mounts.values()


@pytest.mark.skipif(not shutil.which("rsync"), reason="needs rsync")
@pytest.mark.parametrize("name", LAUNCHED)
def test_a_key_among_the_code_stays_here(name: str, tmp_path: Path) -> None:
    """rsync itself, with the patterns as Ray passes them."""
    keys = [".env", ".env.local", ".netrc", "kaggle.json", "cluster.pem", "tls.key"]
    for path in ("cli.py", "__pycache__/cli.pyc", *keys, *(f"data/{key}" for key in keys)):
        (tmp_path / "from" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / path).write_text("x")
    excludes = [word for pattern in load(name)["rsync_exclude"] for word in ("--exclude", pattern)]
    subprocess.run(["rsync", "-a", *excludes, f"{tmp_path}/from/", f"{tmp_path}/to/"], check=True)
    assert [path.name for path in (tmp_path / "to").rglob("*") if path.is_file()] == ["cli.py"]


@pytest.mark.parametrize("name", [*LAUNCHED, "clusters/kuberay.yaml", "clusters/setup_node.sh"])
def test_no_key_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    for line in text.splitlines():
        assert not re.search(r"(API_KEY|KAGGLE_KEY|SECRET\w*|_TOKEN)\s*[:=]\s*[\w\"']", line.split("#")[0]), line
    assert not re.search(r"\bAKIA[A-Z0-9]{16}\b|PRIVATE KEY", text)


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_storage_is_set_in_one_place(name: str) -> None:
    config = load(name)
    (command,) = [command for command in config["setup_commands"] if "setup_node.sh" in command]
    storage = shlex.split(command)[-1]
    assert (ROOT / name).read_text().count(storage) == 1
    assert re.fullmatch(r"[\w.-]+:/[\w./-]*", storage)


def test_setup_installs_the_lock_with_the_project_s_python() -> None:
    script = (ROOT / "clusters/setup_node.sh").read_text()
    assert '-r "$project/requirements.lock"' in script
    (version,) = re.findall(r"^python_version=(.*)$", script, flags=re.MULTILINE)
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'requires-python = ">={version}"' in pyproject
    (ray,) = re.findall(r'^    "(ray\[data,default,train,tune\].*)",$', pyproject, flags=re.MULTILINE)
    assert Requirement(ray).specifier.contains(pinned("ray"))
    assert pinned("boto3"), "the head's autoscaler needs it on AWS"


def test_setup_is_a_shell_script_without_errors() -> None:
    subprocess.run(["bash", "-n", ROOT / "clusters/setup_node.sh"], check=True)


def test_setup_links_results_to_a_folder_that_is_shared_already(tmp_path: Path) -> None:
    """Run for real on a node whose environment is installed: nothing is fetched, and a second run changes nothing."""
    project, home, storage = tmp_path / "raysweep", tmp_path / "home", tmp_path / "shared"
    for folder in (project / "clusters", home, storage):
        folder.mkdir(parents=True)
    for name in ("clusters/setup_node.sh", "requirements.lock"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    digest = subprocess.run(
        ["sha256sum", project / "requirements.lock"], capture_output=True, text=True, check=True
    ).stdout
    (project / ".venv").mkdir()
    (project / f".venv/.installed-{digest[:16]}").touch()
    for words in ([storage], [storage, "mps"]):  # the second one on a machine that may have no MPS
        environment = {**os.environ, "HOME": str(home), "PATH": "/usr/bin:/bin"}
        subprocess.run(["bash", project / "clusters/setup_node.sh", *words], env=environment, check=True)
        assert (project / "results").resolve() == storage / "results"
        assert (home / ".bashrc").read_text().count("raysweep_node") == 1
        assert "RAY_AUTH_MODE=token" in (home / ".raysweep_node").read_text()


def test_setup_refuses_storage_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", ROOT / "clusters/setup_node.sh", tmp_path / "none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "must be a folder" in done.stderr


def test_setup_starts_mps_once_and_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """The last part of the script, with a program of that name that notes what it is called with."""
    program, calls = tmp_path / "nvidia-cuda-mps-control", tmp_path / "calls"
    program.write_text(f'#!/bin/sh\n[ "$1" = -d ] && echo started >> {calls} && exit 0\n[ -s {calls} ]\n')
    program.chmod(0o755)
    script = "mps=$1\n" + (ROOT / "clusters/setup_node.sh").read_text().partition("# 4. MPS")[2].partition("\n")[2]
    for word, starts in (("", []), ("mps", ["started"]), ("mps", ["started"])):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
        subprocess.run(["bash", "-euc", script, "-", word], env=environment, check=True)
        assert (calls.read_text().split() if calls.exists() else []) == starts


# AWS


def test_workers_are_spot_and_the_comments_say_how_they_are_not() -> None:
    config = load("cluster.yaml")
    types = config["available_node_types"]
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert re.search(r"# On demand instead: remove these two lines\.\n +InstanceMarketOptions:\n", _aws_text())
    assert types["gpu"]["min_workers"] == 0 < types["gpu"]["max_workers"] == config["max_workers"]


def test_prices_of_the_nodes_may_be_filled_in() -> None:
    text = _aws_text().replace("# metadata:", "metadata:").replace("<-,", "1.5,").replace("<-}", "2}")
    config = prepare_config(yaml.safe_load(text))
    validate_config(config)
    assert config["metadata"]["prices_per_hour"].keys() == config["available_node_types"].keys()


def _aws_text() -> str:
    return (ROOT / "cluster.yaml").read_text()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """EC2 and IAM as moto plays them, in a region with a default network; nothing leaves this process."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        iam = boto3.client("iam")
        # Present already, as after a first launch: Ray waits 30 s for AWS where it has to make them.
        iam.create_role(RoleName="ray-autoscaler-v1", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="ray-autoscaler-v1")
        iam.add_role_to_instance_profile(InstanceProfileName="ray-autoscaler-v1", RoleName="ray-autoscaler-v1")
        yield boto3


def test_aws_accepts_the_nodes(aws: Any) -> None:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(prepare_config(load("cluster.yaml"))))
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 8
    assert "GPU" not in types["head"]["resources"]
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["resources"]["CPU"] == 4
    (group,) = aws.client("ec2", config["provider"]["region"]).describe_security_groups(
        GroupIds=types["gpu"]["node_config"]["SecurityGroupIds"]
    )["SecurityGroups"]
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
