"""`serve`: a page and a JSON endpoint that label images by a run's best model."""

import importlib.util
import socket
from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, open_run, trust_code_option
from raysweep.errors import UsageError
from raysweep.serve.limits import MIB, Limits, is_loopback


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option(
    "--max-mib", type=click.IntRange(1, 1024), default=20, show_default=True, help="Size of an image's file in MiB."
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 1e6),
    default=50.0,
    show_default=True,
    help="Images a second, from all senders together.",
)
@trust_code_option
def serve(run: Path, host: str, port: int, max_mib: int, rate: float, trust_code: bool) -> None:
    """Serve the best model of a RUN's folder: a page that takes photographs, and POST /predict for programs.

    Listens on this machine alone unless --host says otherwise. GET /health and /metrics are for who watches it. Images
    are in memory only. A signal ends it once open requests are answered.
    """
    run_folder = open_run(run)
    if importlib.util.find_spec("starlette") is None:
        raise UsageError("serve needs Ray Serve, and starlette cannot be imported: pip install 'raysweep[serve]'")
    check_free(host, port)
    if reach := describe_reach(host):
        click.echo(reach, err=True)
    from raysweep.evaluate.stored_model import import_code  # slow: after what can be refused without it
    from raysweep.serve.deployment import run_server
    from raysweep.serve.model import ServedModel

    if trust_code:
        import_code(run_folder)
    ServedModel(run_folder)  # in one sentence here, where a replica would fail three times
    run_server(
        run_folder.path, host=host, port=port, limits=Limits(max_bytes=max_mib * MIB, rate=rate), trust_code=trust_code
    )


def check_free(host: str, port: int) -> None:
    """Looks whether the address can be listened on.

    Raises:
        UsageError: it cannot.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UsageError(
            f"--host and --port must be an address of this machine that is free, {host} port {port} is not: "
            f"{error.strerror or error}; give another --port"
        ) from None


def describe_reach(host: str) -> str | None:
    """Says who reaches a server that listens on the address; none: this machine alone does."""
    if is_loopback(host):
        return None
    return (
        f"{host} is not this machine alone: whoever reaches it can use the model and read the names of its classes; "
        "there is no password and no encryption (SECURITY.md)"
    )
