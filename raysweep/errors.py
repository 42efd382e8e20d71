"""The errors that users see. A message has the rule, the value received and what to do next."""


class RaysweepError(Exception):
    """Base of every deliberate error; `exit_code` is what the command ends with."""

    exit_code = 1


class UsageError(RaysweepError):
    """A wrong flag, study, field or run folder."""

    exit_code = 2


class RefusedFileError(UsageError):
    """A stored file that is whole and is not taken: a later version wrote it, or it names code of somebody's own."""


class DataError(RaysweepError):
    """Images that cannot be had, or too many that cannot be read."""

    exit_code = 2


class TrialError(RaysweepError):
    """A trial that cannot go on, NaN for one; the study goes on without it."""


class StudyFailedError(RaysweepError):
    """No trial finished: there is nothing to evaluate."""


class ExportError(RaysweepError):
    """A model that cannot be written in another format, or does not compute the same there."""


class CorruptFileError(RaysweepError):
    """A stored file that is damaged, or cannot be read: torn, flipped, replaced, with values that are none."""


class StorageError(RaysweepError):
    """Storage that is full, read-only or not reachable: no trial's fault; what is stored stays, to be gone on with."""


class RayLostError(RaysweepError):
    """Ray itself is gone."""

    def __init__(self, message: str, *, lost: str, is_local: bool) -> None:
        super().__init__(message)
        self.lost = lost
        """Ray's name for the process that is gone."""
        self.is_local = is_local
        """Whether this process had started that Ray."""


def shorten(text: str, most: int = 120) -> str:
    """Returns the text, its middle left out where it is longer than `most`: a message stays one to read."""
    return text if len(text) <= most else f"{text[: most - 40]}...{text[-37:]}"


def first_line(error: BaseException, most: int = 300) -> str:
    """Returns the first line of an error's text, at most so many letters; its type where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def escape_controls(text: str) -> str:
    """Escapes what a terminal would take for commands: the name of a file may hold them."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text.expandtabs()
    )
