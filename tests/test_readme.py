"""The README's commands: each one is run here as it stands, or named here with the reason why it is not."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import raysweep
from raysweep.catalogue import load_study

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK = (
    "python -m platform.tune car_resnet --data sample --name quick --trials 2 --max-epochs 1 "
    "--set task.model=resnet10t --set task.pretrained=false --set data.image_size=32"
)
RUN = (
    "python -m platform.studies",
    QUICK,
    "python -m platform.predict results/quick IMAGE...",
    "python -m platform.evaluate results/quick",
    "python -m platform.runs",
    "python -m platform.show results/quick 1",
    "python -m platform.export results/quick --format standalone",
    "python -m platform.publish results/quick --to published",
    "python -m platform.tune car_resnet --name quick --resume --trials 3",
)
NOT_RUN = {
    "python -m platform.tune car_resnet --name mine --resume": "tests/chaos goes on with runs",
    "python -m platform.status results/mine": "tests/search/test_status.py runs it",
    "python -m platform.control results/mine stop-trial 7": "tests/search/test_running_search.py tells a search",
    "pip install optuna-dashboard": "needs a network",
    "optuna-dashboard results/mine/optuna.journal": "is not a dependency",
    "make demo": "minutes",
    "python -m platform.data FOLDER": "tests/data/test_survey.py runs it",
    "python -m platform.tune fashion_autoencoder --name small --second-objective model/num_parameters": "hours; "
    "tests/search/test_run.py searches by two objectives",
    "make test": "these tests",
    "PIP_EXTRA_INDEX_URL=... make install": "tests/test_install_requirements.py runs what it runs",
    "make install TORCH=cuda": "as make install",
    "pip wheel --no-deps --wheel-dir dist .": "tests/test_wheel.py builds it without a network",
    "pip install raysweep-*.whl": "needs a network",
    "docker build --tag registry.example.org/raysweep:0.2.0 .": "needs Docker; tests/test_dockerfile.py",
    "docker build --build-arg TORCH=cpu --build-arg PIP_EXTRA_INDEX_URL=... --tag "
    "registry.example.org/raysweep:0.2.0-cpu .": "as docker build",
    "docker push registry.example.org/raysweep:0.2.0": "as docker build",
    'docker run --rm --shm-size 4g --volume "$PWD/results:/storage" registry.example.org/raysweep:0.2.0 '
    "raysweep tune fashion_cnn --storage /storage": "as docker build",
    "source .venv/bin/activate": "the tests run in that environment",
    "python -m platform.plan fashion_cnn --trials 20": "minutes; tests/planning/test_probe.py plans",
    "python -m platform.tune fashion_cnn": "hours",
    "raysweep tune fashion_cnn": "hours; tests/test_cli.py runs the installed command",
    "python -m platform.tune car_resnet": "needs Kaggle and a GPU",
    "(umask 077; ray get-auth-token --generate)": "writes to the home folder",
    "ray up cluster.yaml": "costs money; tests/cluster/test_two_hosts.py runs it on hosts of its own",
    "ray attach cluster.yaml": "as ray up",
    "cd raysweep": "on the head",
    "python -m platform.doctor": "tests/cluster runs it",
    "python -m platform.doctor --chaos": "minutes; tests/chaos runs the quick faults",
    "python -m platform.doctor --chaos fashion_cnn --faults disk,checkpoint": "as above",
    "ray down cluster.yaml": "as ray up",
    "ray dashboard cluster.yaml &": "as ray up",
    "RAY_AUTH_MODE=token ray job submit --address http://localhost:8265 --working-dir . --runtime-env-json "
    '"{\\"env_vars\\": {\\"WANDB_API_KEY\\": \\"$WANDB_API_KEY\\"}}" -- python -m platform.tune car_resnet '
    "--storage /mnt/raysweep/results": "as ray up",
    "python -m platform.compare results/quick results/mine": "tests/runs/test_comparison.py compares",
    "python -m platform.predict results/quick photos/ --csv --sort-into sorted --embeddings photos.npz": "tests/"
    "test_predict.py",
    "python -m platform.export results/quick": "tests/export exports to ONNX",
    "python -m platform.serve results/quick": "runs until it is ended; tests/serve serves",
    'curl --data-binary @IMAGE --header "Content-Type: image/jpeg" "http://127.0.0.1:8000/predict?heat_map=true"': "as "
    "platform.serve",
    "python -m platform.publish results/quick --to hf:OWNER/NAME": "needs the hub; tests/publish has a stand-in",
    "python -m platform.tune car_resnet --set task.model=efficientnet_lite0 --set task.pretrained=weights.pth": "as the"
    " tests in tests/tasks/classification/test_weights.py",
    "python -m platform.tune car_resnet --set task.model=resnet18 --set task.pretrained=hf-hub:OWNER/NAME": "needs the "
    "hub; the same tests have its cache",
    "python -m platform.tune car_resnet --set task.model=my_networks.py:SmallViT --set "
    "'task.model_args={\"depth\": 6}' --set task.pretrained=false --set task.head=linear --set task.dropout=0": "as the"
    " tests in tests/tasks/classification/test_own_code.py",
    "python -m platform.fetch car_resnet --storage /shared/results": "needs the hub and Kaggle; the tests of weights "
    "fetch",
    "python -m platform.tune FOLDER --time-budget 30m": "tests/proposal makes its study",
    "python -m platform.new mine --data FOLDER": "tests/proposal runs it",
    "python -m platform.tune car_resnet --data FOLDER --name mine": "fetches weights; tests/search runs image folders",
}


def list_commands() -> list[str]:
    """The commands of the README's shell blocks, without comments and line breaks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.split("#")[0].strip()]


def test_the_tests_that_the_reasons_name_exist() -> None:
    named = {path for reason in NOT_RUN.values() for path in re.findall(r"tests/[\w/]+(?:\.py)?", reason)}
    assert named
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


def test_every_command_is_run_or_has_its_reason() -> None:
    assert set(list_commands()) == {*RUN, *NOT_RUN}


@pytest.mark.ray
def test_the_commands_run(tmp_path: Path, make_image_folder: Callable[..., Path]) -> None:
    for name in ("platform", "search_spaces", "raysweep"):
        (tmp_path / name).symlink_to(ROOT / name)
    image = next(make_image_folder(tmp_path / "images", classes=1, per_class=1).rglob("*.jpg"))
    outputs = {}
    for command in RUN:
        words = shlex.split(command.replace("IMAGE...", str(image)))
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        outputs[command] = done.stdout
    assert "fashion_autoencoder" in outputs[RUN[0]]
    assert "macro avg" in outputs[QUICK]
    assert str(image) in outputs[RUN[2]]
    assert "opened 2 times" in outputs[RUN[3]]
    assert "3 trials, 3 complete" in outputs[RUN[-1]]


def test_the_study_of_the_readme_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n([^`]*?STUDY = .*?)```", README, flags=re.DOTALL)
    path = tmp_path / "my_study.py"
    path.write_text(block)
    assert load_study(str(path)).baseline == {"task.learning_rate": 1e-3}


def test_the_python_of_the_readme_names_what_there_is() -> None:
    (block,) = re.findall(r"```python\n(import raysweep\n.*?)```", README, flags=re.DOTALL)
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    owners = {"raysweep": raysweep, "run": raysweep.Run}
    assert {name for name, _ in used} == set(owners)
    for name, attribute in used:
        assert hasattr(owners[name], attribute), f"{name}.{attribute}"
