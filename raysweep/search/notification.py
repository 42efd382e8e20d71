"""Notifies people of each new best of a search and of how the run ended, through the services that Apprise knows."""

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal

from raysweep import signals
from raysweep.config import Objective, format_value
from raysweep.errors import UsageError, first_line
from raysweep.run_folder import RunFolder
from raysweep.search.observer import Observer
from raysweep.search.ranking import rank_results
from raysweep.search.results import Results
from raysweep.storage_faults import say
from raysweep.trial_result import TrialResult

TIMEOUT_S, INTERRUPTED_TIMEOUT_S = 20.0, 5.0
"""How long the last notifications are waited for; the second where whoever sent a signal kills soon."""
REPORT_S = 2.0
"""Of the time that a signal leaves what stays for the report, which is written last."""
Kind = Literal["info", "success", "warning", "failure"]
"""Apprise's types of notifications."""


def load_services(urls: Sequence[str]) -> list[Any]:
    """Loads the services of Apprise that URLs name.

    Raises:
        UsageError: Apprise is not installed, or knows no such URL; which is not shown, as it may have a password.
    """
    if not urls:
        return []
    try:
        import apprise  # slow, and an extra
    except ModuleNotFoundError:
        raise UsageError("--notify needs Apprise: pip install 'raysweep[notify]', or leave it out") from None
    services = []
    for url in urls:
        with _log_captured():
            service = apprise.Apprise.instantiate(url)
        if service is None:
            raise UsageError(
                "--notify must be a URL of Apprise, such as mailto://USER:PASSWORD@HOST or json://HOST/PATH, got one "
                f"that begins with {url.partition(':')[0][:20]!r}; see the list of services of Apprise"
            )
        services.append(service)
    return services


@contextlib.contextmanager
def _log_captured() -> Iterator[Any]:
    """Keeps what Apprise logs off the terminal, for whoever wants to read it."""
    import apprise

    capture: Any = apprise.LogCapture  # has no types
    with capture(level=logging.WARNING, fmt="%(message)s") as captured:
        yield captured


class Notifier(Observer):
    """Sends notifications while it is open, on a thread of its own; one that fails says one sentence, and no more."""

    def __init__(self, urls: Sequence[str], folder: RunFolder) -> None:
        self.services = load_services(urls)
        self.folder = folder
        self._objectives: Sequence[Objective] = ()
        self._ended: list[TrialResult] = []
        self._failed: set[int] = set()
        """Services of which a failure was said."""
        self._queue: queue.Queue[tuple[str, str, Kind] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)

    def __enter__(self) -> "Notifier":
        if self.services:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._send("interrupted", f"go on with --resume: {self.folder.path}", "warning")
        elif error is not None:
            self._send("failed", first_line(error), "failure")
        self._queue.put(None)
        if self._thread.ident is not None:
            left_s = max(0.0, signals.time_left_s() - REPORT_S)
            self._thread.join(TIMEOUT_S if signals.received() is None else min(INTERRUPTED_TIMEOUT_S, left_s))

    def begin(self, objectives: Sequence[Objective], ended: Iterable[TrialResult]) -> None:
        """Begins a search of which some trials `ended` in earlier sessions."""
        self._objectives, self._ended = objectives, list(ended)

    def trial_ended(self, result: TrialResult) -> None:
        """Notifies of a trial that is better than all before it."""
        before = next(iter(rank_results(self._ended, self._objectives)), None)
        self._ended.append(result)
        best = next(iter(rank_results(self._ended, self._objectives)), None)
        if before is None or best is not result or before.value is None or result.value is None:
            return
        metric = self._objectives[0].metric
        self._send(
            "new best",
            f"trial {result.number}: {metric} {format_value(result.value)}, before {format_value(before.value)} "
            f"(trial {before.number})",
            "info",
        )

    def search_ended(self, results: Results) -> None:
        """Notifies of the end, with what the test images said."""
        self._send("finished", "\n".join(results.test.describe()), "success")

    def _send(self, what: str, text: str, kind: Kind) -> None:
        if self.services:
            self._queue.put((f"raysweep {self.folder.path.name}: {what}", text, kind))

    def _work(self) -> None:
        while (message := self._queue.get()) is not None:
            for number, service in enumerate(self.services):
                self._notify(number, service, *message)

    def _notify(self, number: int, service: Any, title: str, text: str, kind: Kind) -> None:
        reason = ""
        try:
            with _log_captured() as captured:
                is_sent = service.notify(title=title, body=text, notify_type=kind)
                reason = next(iter(captured.getvalue().strip().splitlines()), "it was not taken")
        except Exception as error:  # of any service: it ends no run
            is_sent, reason = False, f"{type(error).__name__}: {first_line(error)}"
        if not is_sent and number not in self._failed:
            self._failed.add(number)
            say(
                f"no notification by {service.service_name}: {reason.rstrip('.')}; the run goes on, and further "
                "failures of it are not shown"
            )
