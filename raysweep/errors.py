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


class RayLostError(RaysweepError):
    """Ray itself is gone."""

    def __init__(self, message: str, *, lost: str, is_local: bool) -> None:
        super().__init__(message)
        self.lost = lost
        """Ray's name for the process that is gone."""
        self.is_local = is_local
        """Whether this process had started that Ray."""
