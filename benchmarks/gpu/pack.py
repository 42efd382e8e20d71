"""Packs what a machine with a GPU and without network lacks: wheels for its Python, small enough to be carried.

    python benchmarks/gpu/pack.py FOLDER [--ray] [--python 3.12]

There, from the root of the repository:

    python3 -m pip install --no-index --no-deps --target /tmp/site FOLDER/*.whl
    PYTHONPATH=/tmp/site python3 benchmarks/gpu/measure.py
"""

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOP = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "optuna", "colorlog")
"""What training and the studies import beside torch, torchvision, timm and scikit-learn, which are there."""
SEARCH = (
    "ray", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py", "sqlalchemy", "cmaes", "alembic",
    "mako", "plotly", "wandb", "platformdirs", "gitpython", "gitdb", "smmap", "opentelemetry-api",
    "opentelemetry-sdk", "opentelemetry-proto", "opentelemetry-semantic-conventions",
)  # fmt: skip
"""What a search on Ray with `--wandb disabled` needs beside that."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
UNUSED = re.compile(
    r"^ray/(jars|rllib|llm|dashboard/client)/|\.map$|^wandb/(bin|vendor/.*test)|^plotly(-[^/]*\.data|/labextension)/"
)
"""Files of wheels that no such search reads: half of Ray's 76 MiB, nearly all of W&B's 20."""


def read_versions(lock: Path) -> dict[str, str]:
    """Reads the version of each package in requirements.lock."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pins}


def pack(folder: Path, *, python: str, with_ray: bool) -> list[Path]:
    """Downloads the wheels through pip, strips them, and returns their paths."""
    versions = read_versions(ROOT / "requirements.lock")
    wanted = [name for name in (*LOOP, *(SEARCH if with_ray else ())) if name in versions]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*command, *(f"{name}=={versions[name]}" for name in wanted)], check=True)
    wheels = sorted(folder.glob("*.whl"))
    for wheel in wheels:
        strip(wheel)
    return wheels


def strip(wheel: Path) -> None:
    """Removes from a wheel what is not used; pip installs it without."""
    with zipfile.ZipFile(wheel) as source:
        if not any(UNUSED.search(name) for name in source.namelist()):
            return
        smaller = wheel.with_suffix(".part")
        with zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
            for item in source.infolist():
                if UNUSED.search(item.filename):
                    continue
                content = source.read(item)
                if item.filename.endswith(".dist-info/RECORD"):
                    lines = content.decode().splitlines(keepends=True)
                    content = "".join(line for line in lines if not UNUSED.search(line.split(",")[0])).encode()
                target.writestr(item, content)
    smaller.replace(wheel)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ray", action="store_true", help="what a search on Ray needs, too")
    parser.add_argument("--python", default="3.12", help="of that machine; default %(default)s")
    args = parser.parse_args()
    wheels = pack(args.folder, python=args.python, with_ray=args.ray)
    size_bytes = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {size_bytes / 2**20:.1f} MiB, in {args.folder}")


if __name__ == "__main__":
    main()
