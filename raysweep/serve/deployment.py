"""Runs the server on Ray Serve: a proxy that holds the connections, a replica that labels in batches."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ray import serve
from ray.serve.config import HTTPOptions

from raysweep.announcement import announce
from raysweep.cluster.connection import connect
from raysweep.cluster.lost_ray import PERIOD_S, find_dead_process
from raysweep.cluster.ray_internals import close_pickle_port
from raysweep.serve.limits import Limits

MAX_BATCH_SIZE = 32
ENDING_S = 15.0
"""Time that open requests have to be answered once the server is to end."""
LOGS = {"log_level": "WARNING", "enable_access_log": False}


def run_server(run: Path, *, host: str, port: int, limits: Limits, trust_code: bool) -> None:
    """Serves until it is interrupted; open requests are answered first.

    Raises:
        KeyboardInterrupt: the signal that ended it.
    """
    with serving(run, host=host, port=port, limits=limits, trust_code=trust_code):
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/ shows the page; Ctrl-C ends it", flush=True)
        while True:
            time.sleep(3600)


@contextmanager
def serving(run: Path, *, host: str, port: int, limits: Limits, trust_code: bool = False) -> Iterator[None]:
    """Serves on a local Ray while it is open."""
    connect("local")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with announce("the server to start"):
        options = HTTPOptions(host=host, port=port)
        serve.start(proxy_location="HeadOnly", http_options=options, logging_config=LOGS)
    try:
        with announce("the model to be loaded"):
            serve.run(build_deployment(run, host, limits, trust_code), logging_config=LOGS)
        yield
    finally:
        ending = threading.Thread(target=_end, name="serve-end", daemon=True)
        ending.start()
        while ending.is_alive() and not find_dead_process():  # a signal to a whole group ends Ray's own processes, too
            ending.join(PERIOD_S)


def _end() -> None:
    with contextlib.suppress(Exception):  # of a Ray that is lost meanwhile
        serve.delete("default")  # lets the replica answer what is open, where shutdown cuts the connections
        serve.shutdown()  # type: ignore[no-untyped-call]


def build_deployment(run: Path, host: str, limits: Limits, trust_code: bool) -> Any:
    """Builds the deployment; it loads the model in its replica."""

    def build_app() -> Any:
        from raysweep.evaluate.stored_model import import_code
        from raysweep.run_folder import RunFolder
        from raysweep.serve.app import Server
        from raysweep.serve.model import Query, ServedModel, use_all_cores

        close_pickle_port()
        use_all_cores()
        run_folder = RunFolder(run)
        if trust_code:
            import_code(run_folder)
        model = ServedModel(run_folder)

        # One batch at a time; what comes meanwhile is the next one, so that there is no need to wait for more.
        @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0)
        async def answer(queries: Sequence[Query]) -> list[dict[str, Any]]:
            return await asyncio.to_thread(model.answer, queries)

        return Server(model, answer, limits, host).build_app()

    deployment: Any = serve.deployment(
        serve.ingress(build_app)(),
        name="raysweep",
        max_ongoing_requests=4 * limits.max_waiting,  # the server itself refuses what is too many, in JSON
        graceful_shutdown_timeout_s=ENDING_S,
        graceful_shutdown_wait_loop_s=0.1,
        ray_actor_options={"num_gpus": 1 if torch.cuda.is_available() else 0},
    )
    return deployment.bind()
