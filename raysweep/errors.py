"""The errors that users see. A message has the rule, the value received and what to do next."""


class RaysweepError(Exception):
    """Base of every deliberate error; `exit_code` is what the command ends with."""

    exit_code = 1


class UsageError(RaysweepError):
    """A wrong flag, study, field or run folder."""

    exit_code = 2


class DataError(RaysweepError):
    """Images that cannot be had, or too many that cannot be read."""

    exit_code = 2


class TrialError(RaysweepError):
    """A trial that cannot go on, NaN for one; the study goes on without it."""


class StudyFailedError(RaysweepError):
    """No trial finished: there is nothing to evaluate."""


class CorruptFileError(RaysweepError):
    """A stored file whose content does not match its digest."""


def escape_controls(text: str) -> str:
    """Escapes what a terminal would take for commands: the name of a file may hold them."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text.expandtabs()
    )
