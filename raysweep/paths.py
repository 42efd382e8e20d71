"""Makes a path of what a user gives as one: of a flag, a keyword, the environment or a study."""

from pathlib import Path

from raysweep.errors import UsageError, shorten


def resolve_path(text: str | Path, what: str) -> Path:
    """Returns the absolute path, with `~` and links resolved; there need not be anything. `what` names it in messages.

    Raises:
        UsageError: it is empty, has the home of nobody, or is one that the system takes for none.
    """
    if not str(text).strip():
        raise UsageError(f"{what} must be a path, got an empty one; the folder you are in is .")
    try:
        path = Path(text).expanduser().resolve()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # what is to be there is for the caller to say
    except (OSError, RuntimeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
        raise UsageError(f"{what} must be a path that can be used, got {shorten(repr(str(text)))}: {reason}") from None
    return path
