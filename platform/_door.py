"""What the modules of this folder share: the way from `python -m platform.VERB` to `raysweep.cli`."""

import sys


def enter(verb: str) -> None:
    """Runs `raysweep VERB` with this process's arguments; exits with 2 where raysweep's requirements are missing."""
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - an older one may be the first in PATH
            raise ImportError("it is Python {}.{}, and 3.11 is the least".format(*sys.version_info))
        from raysweep.cli import load_command, run_command
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except ImportError as error:
        if error.name and error.name.startswith("raysweep."):
            raise  # a defect of ours, not a missing install
        print(
            f"raysweep is not installed for {sys.executable} ({error}): "
            f"run `make install`, then `.venv/bin/python -m platform.{verb} ...`",
            file=sys.stderr,
        )
        sys.exit(2)
    run_command(load_command(verb), sys.argv[1:], f"python -m platform.{verb}")
