"""What the modules of this folder share: the way from `python -m platform.VERB` to `raysweep.cli`."""

import sys


def enter(verb: str) -> None:
    """Run `raysweep VERB` with this process's arguments; exit 2 where raysweep's requirements are missing."""
    try:
        from raysweep.cli import main
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("raysweep."):
            raise  # a defect of ours, not a missing install
        print(
            f"raysweep is not installed for {sys.executable} (no module named {error.name!r}): "
            f"run `make install`, then `.venv/bin/python -m platform.{verb} ...`",
            file=sys.stderr,
        )
        sys.exit(2)
    main([verb, *sys.argv[1:]])
