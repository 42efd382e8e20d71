"""The commands in README and docs: each one is run here as it stands, or named here with the reason why it is not.

The site is built, with what is generated for it, and all links have to lead somewhere.
"""

import ast
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import raysweep
from raysweep.catalogue import load_study
from raysweep.registry import load_object
from raysweep.tasks.classification.networks import build_classifier
from tools.docs_reference import PARTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
FIRST = "python -m platform.tune photos --name first --trials 2 --max-epochs 1"
ONE_MORE = "python -m platform.tune photos --name first --resume --trials 3"
RUN = (
    FIRST,
    "python -m platform.studies",
    "python -m platform.data photos",
    "python -m platform.predict results/first IMAGE...",
    "python -m platform.evaluate results/first",
    "python -m platform.export results/first --format standalone",
    "python -m platform.publish results/first --to published",
    "python -m platform.status results/first",
    "python -m platform.report results/first",
    "python -m platform.runs",
    "python -m platform.show results/first",
    "python -m platform.show results/first 0",
    "python -m platform.clean results/first",
    ONE_MORE,
)
"""Run one after the other in one process, which imports torch and starts a local Ray once."""
EXPECTED = {
    FIRST: "macro avg",
    "python -m platform.studies": "fashion_autoencoder",
    "python -m platform.data photos": "class0",
    "python -m platform.predict results/first IMAGE...": "IMAGE: ",
    "python -m platform.evaluate results/first": "opened 2 times",
    "python -m platform.export results/first --format standalone": "results/first/export/standalone",
    "python -m platform.publish results/first --to published": "/published\n",
    "python -m platform.status results/first": "finished",
    "python -m platform.report results/first": "results/first/report.html",
    "python -m platform.runs": "first",
    "python -m platform.show results/first": "2/2",
    "python -m platform.show results/first 0": "baseline",
    "python -m platform.clean results/first": "may be deleted",
    ONE_MORE: "3 trials, 3 complete",
}
"""What is on stdout."""
ONE_PROCESS = """
import sys
from platform._door import enter
for command in sys.argv[1:]:
    words = command.split("\\t")
    print("$$", command, flush=True)
    sys.argv = words
    enter(words[0])
"""
NOT_RUN = {
    "python -m platform.tune car_resnet --name mine --resume": "tests/chaos goes on with runs",
    "pip install optuna-dashboard": "needs a network",
    "optuna-dashboard results/mine/optuna.journal --artifact-dir results/mine/artifacts": "runs until it is ended",
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
    "python -m platform.predict results/first photos/ --csv --sort-into sorted --embeddings photos.npz": "tests/"
    "test_predict.py",
    "python -m platform.export results/first": "tests/export exports to ONNX",
    "python -m platform.serve results/first": "runs until it is ended; tests/serve serves",
    'curl --data-binary @IMAGE --header "Content-Type: image/jpeg" "http://127.0.0.1:8000/predict?heat_map=true"': "as "
    "platform.serve",
    "python -m platform.publish results/first --to hf:OWNER/NAME": "needs the hub; tests/publish has a stand-in",
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
    # the tutorial's run, and what is done with it
    "make install": "tests/test_install_requirements.py runs what it runs",
    "python -m platform.data sample": "draws 1,820 pictures; tests/data draws some",
    "cp -r results/.cache/sample-cars photos": "as platform.data sample",
    "python -m platform.tune photos --time-budget 30m": "half an hour; the first pass is run",
    "python -m platform.tune photos --resume": "as platform.tune photos --name first --resume",
    "python -m platform.tune photos --resume --finalists 2 --seeds 3": "hours; tests/search/test_run.py has finalists",
    "python -m platform.tune fashion_cnn --resume --finalists 3 --seeds 5": "as above",
    "python -m platform.predict results/photos photos": "as platform.predict results/first",
    "python -m platform.serve results/photos": "as platform.serve results/first",
    "python -m platform.export results/photos": "as platform.export results/first",
    "python -m platform.export results/photos --format standalone": "as platform.export results/first",
    "python -m platform.tune FOLDER --resume": "as platform.tune photos --name first --resume",
    "python -m platform.predict results/FOLDER IMAGE...": "as platform.predict results/first",
    "python -m platform.serve results/FOLDER": "as platform.serve results/first",
    "python -m platform.tune car_resnet --data sample --name quick --trials 2 --max-epochs 1 --set "
    "task.model=resnet10t --set task.pretrained=false --set data.image_size=32": "tests/chaos searches the sample so",
    "python -m platform.tune fashion_cnn --set task.dropout=0.3 --set data.augmentation.strength=0.5": "hours; "
    "tests/test_study.py sets fields",
    # runs that go on
    "python -m platform.status results/first --json": "as without --json",
    "python -m platform.control results/first stop-trial 7": "only a running search takes it",
    "python -m platform.control results/first add-point task.learning_rate=3e-4 training.batch_size=64": "as above",
    "python -m platform.control results/first trials 40": "as above",
    "python -m platform.control results/first pause": "as above",
    "python -m platform.control results/first resume": "as above",
    "python -m platform.control results/first stop": "as above",
    "python -m platform.tune fashion_cnn --notify mailto://USER:PASSWORD@example.org": "needs a mail server",
    "python -m platform.replay results/first 0": "trains a trial again",
    "python -m platform.compare results/first results/second": "there is one run only",
    # trackers
    "python -m platform.tune fashion_cnn --tracker tensorboard": "hours",
    "tensorboard --logdir results/fashion_cnn/tensorboard": "runs until it is ended",
    "python -m platform.tune fashion_cnn --tracker mlflow": "hours",
    # clusters
    "ray up clusters/on_premises.yaml": "tests/cluster/test_two_hosts.py runs it on hosts of its own",
    "ray attach clusters/on_premises.yaml": "as ray up",
    "aws iam attach-role-policy --role-name ray-autoscaler-v1 --policy-arn "
    "arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess": "changes an account",
    'kubectl create secret generic raysweep-wandb --from-literal=api-key="$WANDB_API_KEY"': "needs a Kubernetes",
    "kubectl apply -f clusters/kuberay.yaml": "needs a Kubernetes; tests/cluster/test_kuberay.py reads the file",
    "kubectl logs -f job/raysweep-car-resnet": "needs a Kubernetes",
    "sbatch clusters/slurm.sh car_resnet --storage /shared/results": "needs a Slurm; tests/cluster/test_slurm.py",
    "srun --cpus-per-task=8 --gpus-per-node=1 .venv/bin/python -m platform.tune fashion_cnn --address local": "needs a "
    "Slurm",
    "python -m platform.tune fashion_cnn --trials-per-gpu 8": "needs a GPU",
    "bash clusters/setup_node.sh STORAGE mps": "needs a GPU",
    # without a network
    "pip download --requirement requirements.lock --dest packages": "needs a network",
    "pip wheel --no-deps --wheel-dir packages .": "tests/test_wheel.py builds it without a network",
    "python3 -m venv .venv": "as make install",
    ".venv/bin/pip install --no-index --find-links packages --requirement requirements.lock": "needs the packages",
    ".venv/bin/pip install --no-index --find-links packages --no-deps raysweep": "needs the packages",
}


def list_commands(text: str) -> list[str]:
    """The commands of a page's shell blocks, without comments and line breaks."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(textwrap.dedent(block) for _, block in blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.split("#")[0].strip()]


def test_the_tests_that_the_reasons_name_exist() -> None:
    named = {path for reason in NOT_RUN.values() for path in re.findall(r"tests/[\w/]+(?:\.py)?", reason)}
    assert named
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


def test_every_command_is_run_or_has_its_reason() -> None:
    found = {command: name for name, text in PAGES.items() for command in list_commands(text)}
    assert not {command: name for command, name in found.items() if command not in {*RUN, *NOT_RUN}}
    assert not {*RUN, *NOT_RUN} - set(found)


@pytest.mark.ray
def test_the_commands_run(tmp_path: Path, make_image_folder: Callable[..., Path]) -> None:
    for name in ("platform", "search_spaces", "raysweep"):
        (tmp_path / name).symlink_to(ROOT / name)
    image = next(make_image_folder(tmp_path / "photos").rglob("*.jpg"))
    lines = [shlex.split(command.replace("IMAGE...", str(image)))[2:] for command in RUN]
    commands = ["\t".join([words[0].removeprefix("platform."), *words[1:]]) for words in lines]
    done = subprocess.run(
        [sys.executable, "-c", ONE_PROCESS, *commands],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=2700,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told = dict(zip(RUN, done.stdout.split("$$ ")[1:], strict=True))
    for command, part in EXPECTED.items():
        assert part.replace("IMAGE", str(image)) in told[command], command


def test_the_study_of_the_docs_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n([^`]*?STUDY = .*?)```", PAGES["docs/how-to/study.md"], flags=re.DOTALL)
    path = tmp_path / "my_study.py"
    path.write_text(block)
    assert load_study(str(path)).baseline == {"task.learning_rate": 1e-3}


def test_the_network_and_the_loss_of_the_docs_are_as_they_are_called(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(import torch\n.*?)```", PAGES["docs/how-to/own-network.md"], flags=re.DOTALL)
    path = tmp_path / "my_networks.py"
    path.write_text(block)
    model = build_classifier(
        f"{path}:SmallViT",
        head="linear",
        dropout=0.0,
        batch_norm=False,
        num_classes=3,
        channels=1,
        image_size=32,
        model_args={"depth": 2},
    )
    logits = model(torch.zeros(2, 1, 32, 32))
    assert logits.shape == (2, 3)
    assert model.last_linear.out_features == 3
    loss = load_object(f"{path}:focal")(logits, torch.tensor([0, 2]))
    assert loss.shape == (2,)
    assert (loss > 0).all()


def test_the_python_of_the_docs_names_what_there_is() -> None:
    blocks = [
        block
        for text in PAGES.values()
        for block in re.findall(r"```python\n(import raysweep\n.*?)```", text, re.DOTALL)
    ]
    used = {
        (node.value.id, node.attr)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    owners = {"raysweep": raysweep, "run": raysweep.Run}
    assert {name for name, _ in used} == set(owners)
    for name, attribute in used:
        assert hasattr(owners[name], attribute), f"{name}.{attribute}"


# the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a link that leads nowhere fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_shows_what_is_generated_and_asks_nobody_else_for_anything(site: Path) -> None:
    pages = {str(path.relative_to(site)): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert "task.learning_rate" in pages["reference/fields.html"]
    assert "must be in 0..1" in pages["reference/errors.html"]
    assert "<!-- reference" not in "".join(pages.values())
    loaded = r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//|<link[^>]* href=\"?(?:https?:)?//"
    assert not [name for name, text in pages.items() if re.search(loaded, text)]


def test_each_field_file_and_metric_of_the_reference_has_its_meaning() -> None:
    empty = [
        line
        for name, build in PARTS.items()
        if name != "studies"
        for line in build().splitlines()
        if line.endswith("|  |")
    ]
    assert not empty


def test_each_page_of_the_repository_links_to_what_is_there() -> None:
    for name, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", text):
            assert (ROOT / name).parent.joinpath(link).exists(), f"{name} links to {link}"


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 120
