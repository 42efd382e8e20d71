"""Measures the server against a bare Starlette application with the same network, which neither rejects nor limits.

    python benchmarks/serve.py RUN FOLDER [--requests 400] [--senders 16] [--repeats 5]

RUN is a finished run of a classifier, FOLDER has images; its files are sent in turn. The peer is one process of uvicorn
that decodes by the same function and computes in threads, an image at a time. Both run all the time; senders are
threads of this process that each keep a connection. Ratios are requests per second of wall and of the server's CPU time
(all of its processes, Ray's too), ours over the peer's, paired, in alternating order.
"""

import argparse
import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
import uvicorn
from _report import alternate, bootstrap_median, finish, give_up, warn_if_busy
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from raysweep.data.batches import normalise_images
from raysweep.data.decode import decode_image
from raysweep.evaluate.stored_model import load_best
from raysweep.predict import find_images
from raysweep.run_folder import RunFolder

START_S = 300.0
PAUSE_S = 0.5
"""After a part, so that its last work is not counted to the next."""


def build_bare(run: RunFolder) -> Starlette:
    """Builds what a practitioner writes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_best(run, device)
    data, network = model.config.data, model.modules["model"].eval()

    @torch.inference_mode()
    def label(content: bytes) -> dict[str, Any]:
        pixels = decode_image(content, size=data.decoded_size, channels=data.channels)
        confidences = model.task.infer(network, normalise_images(pixels[None], data, device)).softmax(dim=1)[0]
        return {"label": model.info.classes[int(confidences.argmax())], "confidence": float(confidences.max())}

    async def predict(request: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(label, await request.body()))

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({})

    return Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/health", health)])


@contextmanager
def server(arguments: Sequence[str], port: int) -> Iterator[psutil.Process]:
    """Runs a server as a process of its own, and waits until it answers."""
    process = subprocess.Popen([sys.executable, *arguments, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=10)
                break
            except httpx.HTTPError:
                if time.monotonic() > until or process.poll() is not None:
                    give_up(f"{' '.join(arguments)} must answer within {START_S:.0f} s")
            time.sleep(0.5)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def measure(process: psutil.Process, port: int, contents: Sequence[bytes], senders: int) -> dict[str, Any]:
    """Sends images from several threads; returns seconds and what was said."""
    shares = [contents[start::senders] for start in range(senders)]

    def send(share: Sequence[bytes]) -> list[tuple[float, str]]:
        said = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Content-Type": "image/jpeg"}) as client:
            for content in share:
                began = time.perf_counter()
                answer = client.post("/predict", content=content, timeout=120)
                answer.raise_for_status()
                said.append((time.perf_counter() - began, str(answer.json()["label"])))
        return said

    before, began = _cpu_s(process), time.perf_counter()
    with ThreadPoolExecutor(senders) as pool:
        said = list(pool.map(send, shares))
    wall = time.perf_counter() - began
    cpu = _cpu_s(process) - before
    time.sleep(PAUSE_S)
    seconds = [each for share in said for each, _ in share]
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "p50_s": float(np.quantile(seconds, 0.5)),
        "p95_s": float(np.quantile(seconds, 0.95)),
        "labels": [label for share in said for _, label in share],
    }


def check_labels(labels: Mapping[str, Sequence[str]]) -> None:
    """Gives up where ours and the peer's differ, but for single ones: sums of floats differ by the size of a batch."""
    same = sum(one == other for one, other in zip(labels["ours"], labels["bare"], strict=True))
    if same < 0.99 * len(labels["bare"]):
        give_up(f"both must give the same labels, got {same} of {len(labels['bare'])}")


def _cpu_s(process: psutil.Process) -> float:
    """Adds up the CPU seconds of a process and of its children that live."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Prints both ratios; with --port it is the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=400, help="of each part; default: 400")
    parser.add_argument("--senders", type=int, default=16, help="default: 16")
    parser.add_argument("--repeats", type=int, default=5, help="pairs; default: 5")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    run, found = RunFolder(arguments.run.resolve()), find_images([arguments.folder])
    if arguments.port:
        uvicorn.run(build_bare(run), port=arguments.port, log_level="warning")
        return
    if not found or not found[0].is_file():
        give_up(f"{arguments.folder} must have images")
    warn_if_busy()
    contents = [path.read_bytes() for path in itertools.islice(itertools.cycle(found), arguments.requests)]
    ports = {"ours": _find_port(), "bare": _find_port()}
    commands = {
        "ours": ["-m", "platform.serve", str(run.path), "--rate", "1000000"],
        "bare": [__file__, str(run.path), str(arguments.folder)],
    }
    with server(commands["ours"], ports["ours"]) as ours, server(commands["bare"], ports["bare"]) as bare:
        processes = {"ours": ours, "bare": bare}
        parts = {
            name: partial(measure, processes[name], ports[name], contents, arguments.senders) for name in processes
        }
        alternate(parts, 0)  # warms both up
        done = []
        for repeat in range(arguments.repeats):
            done.append(alternate(parts, repeat))
            check_labels({name: said.pop("labels") for name, said in done[-1].items()})
            print({name: {key: round(value, 3) for key, value in done[-1][name].items()} for name in parts}, flush=True)
    ratios = {
        "requests per wall second": bootstrap_median(
            [pair["bare"]["wall_s"] / pair["ours"]["wall_s"] for pair in done]
        ),
        "requests per CPU second": bootstrap_median([pair["bare"]["cpu_s"] / pair["ours"]["cpu_s"] for pair in done]),
    }
    values = {
        f"{name} {key}": round(float(np.median([pair[name][key] for pair in done])), 4)
        for name in ("ours", "bare")
        for key in ("wall_s", "cpu_s", "p50_s", "p95_s")
    }
    finish(
        "serve",
        ratios=ratios,
        n=arguments.repeats,
        values={"requests": arguments.requests, "senders": arguments.senders, **values},
    )


if __name__ == "__main__":
    main()
