"""The server on Ray Serve: it answers, listens on 127.0.0.1 alone, and ends once open requests are answered."""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner
from PIL import Image

from raysweep.commands.serve import check_free, describe_reach, serve
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.serve.limits import Limits


@pytest.fixture
def run(keep_squares: Callable[..., RunFolder]) -> RunFolder:
    return keep_squares(num_epochs=1)


def list_addresses() -> set[str]:
    """Lists the addresses on which this process and its children listen."""
    own = psutil.Process()
    sockets = []
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            sockets += process.net_connections("inet")
    return {entry.laddr.ip.removeprefix("::ffff:") for entry in sockets if entry.status == psutil.CONN_LISTEN}


def wait_until_closed(port: int) -> None:
    """Waits until nobody listens: Ray ends the proxy's process and goes on at once."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    pytest.fail(f"port {port} is still open")


@pytest.mark.ray
def test_it_serves_on_loopback_alone_and_answers_what_is_open_when_it_ends(
    ray_local: None, run: RunFolder, free_port: int, draw_squares: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    from raysweep.serve.deployment import serving

    file = io.BytesIO()
    Image.fromarray(draw_squares(1, 3)[0][0, :, :, 0].astype(np.uint8)).save(file, "PNG")
    content, url = file.getvalue(), f"http://127.0.0.1:{free_port}"
    headers = {"Content-Type": "image/png"}
    client = httpx.Client(timeout=120)
    with socket.socket() as slow:
        with serving(run.path, host="127.0.0.1", port=free_port, limits=Limits()):
            with ThreadPoolExecutor(8) as pool:
                answers = list(
                    pool.map(lambda _: client.post(f"{url}/predict", content=content, headers=headers), "x" * 8)
                )
            assert [answer.status_code for answer in answers] == [200] * 8
            assert len({answer.json()["label"] for answer in answers}) == 1
            assert "Content-Security-Policy" in client.get(url).headers
            assert list_addresses() <= {"127.0.0.1", "::1"}
            slow.connect(("127.0.0.1", free_port))
            head = [
                "POST /predict HTTP/1.1",
                "Host: localhost",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            slow.sendall("\r\n".join([*head, f"Content-Length: {len(content)}", "", ""]).encode() + content[:50])
            while "raysweep_waiting_images 1.0" not in client.get(f"{url}/metrics").text:
                pass
            rest = threading.Timer(1.0, slow.sendall, [content[50:]])
            rest.start()
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
    wait_until_closed(free_port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org", ""])
def test_an_address_that_others_reach_is_remarked_on(host: str) -> None:
    assert "no password and no encryption" in str(describe_reach(host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_an_address_of_this_machine_alone_is_not(host: str) -> None:
    assert describe_reach(host) is None


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_refused(free_port: int) -> None:
    check_free("127.0.0.1", free_port)
    refused = pytest.raises(UsageError, match=f"127.0.0.1 port {free_port} is not")
    with socket.create_server(("127.0.0.1", free_port)), refused:
        check_free("127.0.0.1", free_port)
    with pytest.raises(UsageError, match=r"192\.0\.2\.1"):
        check_free("192.0.2.1", free_port)


def test_a_damaged_model_and_a_folder_that_is_no_run_are_refused_before_ray_starts(
    run: RunFolder, free_port: int
) -> None:
    arguments = [str(run.path), "--port", str(free_port)]
    run.best.weights.write_bytes(run.best.weights.read_bytes()[:-1])
    result = CliRunner().invoke(serve, arguments)
    assert str(run.best.weights.name) in str(result.exception)
    run.best.config.unlink()
    with pytest.raises(UsageError, match=r"has no best/config.json"):
        serve.main(arguments, standalone_mode=False)
