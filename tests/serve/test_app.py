"""The server without Ray, asked by HTTP's own messages: answers, limits, refusals in one sentence, and the page."""

import asyncio
import gc
import io
import json
import re
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from raysweep.predict import predict_files
from raysweep.run_folder import RunFolder
from raysweep.serve.app import Server, load_page
from raysweep.serve.limits import Limits, RateLimit, Refusal
from raysweep.serve.model import Query, ServedModel

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("<script>alert(1)</script>", "Bag", "Coat", "Dress")
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def run(keep_squares: Callable[..., RunFolder]) -> RunFolder:
    return keep_squares(CLASSES)


@pytest.fixture(scope="module")
def model(run: RunFolder) -> ServedModel:
    return ServedModel(run)


@pytest.fixture
def make_client(model: ServedModel) -> Callable[..., httpx.AsyncClient]:
    """`(limits, host="127.0.0.1", answer=None)` -> a client of a server, without a network."""

    def make(limits: Limits | None = None, host: str = "127.0.0.1", answer: Any = None) -> httpx.AsyncClient:
        async def answer_alone(query: Query) -> dict[str, Any]:
            return (await asyncio.to_thread(model.answer, [query]))[0]

        app = Server(model, answer or answer_alone, limits or Limits(), host).build_app()
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000")

    return make


def ask(client: httpx.AsyncClient, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    """Sends requests side by side."""

    async def send() -> list[httpx.Response]:
        async with client:
            return await asyncio.gather(*(client.request(verb, path, **options) for verb, path, options in requests))

    return asyncio.run(send())


def predict(content: Any, headers: dict[str, str] = PNG, query: str = "") -> tuple[str, str, dict[str, Any]]:
    return "POST", f"/predict{query}", {"content": content, "headers": headers}


def to_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def image(draw_squares: Callable[..., tuple[np.ndarray, np.ndarray]]) -> bytes:
    return to_png(draw_squares(1, 3)[0][0, :, :, 0])


NOISE = to_png(np.random.default_rng(0).integers(0, 256, (28, 28)))

# Answers


def test_an_answer_is_what_predict_says_of_the_file(
    make_client: Callable[..., httpx.AsyncClient], run: RunFolder, image: bytes, tmp_path: Path
) -> None:
    answers = ask(make_client(), predict(image), predict(NOISE))
    for name, content, answer in zip("ab", (image, NOISE), answers, strict=True):
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        (row,) = predict_files(run, [path], top_k=3)
        assert answer.status_code == 200
        assert answer.json() == {key: pytest.approx(row[key], rel=1e-4) for key in ("confidence", "score")} | {
            key: row[key] for key in ("label", "rejected", "threshold", "trusted")
        } | {"top": [{"label": e["label"], "confidence": pytest.approx(e["confidence"], rel=1e-4)} for e in row["top"]]}
    assert [answer.json()["rejected"] for answer in answers] == [False, True]


def test_a_batch_gives_each_its_own_answer(
    model: ServedModel, draw_squares: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    pixels = draw_squares(9, 4)[0].astype(np.uint8)
    together = model.answer([Query(image, heat_map=index % 2 == 1) for index, image in enumerate(pixels)])
    for index, (image, row) in enumerate(zip(pixels, together, strict=True)):
        (alone,) = model.answer([Query(image, heat_map=index % 2 == 1)])
        assert row.keys() == alone.keys()
        assert ("heat_map" in row) == (index % 2 == 1)
        assert (row["label"], row["rejected"]) == (alone["label"], alone["rejected"])
        np.testing.assert_allclose(row.get("heat_map", 0), alone.get("heat_map", 0), atol=1e-3)


def test_the_heat_map_is_warmest_where_the_class_is_to_be_seen(
    make_client: Callable[..., httpx.AsyncClient], draw_squares: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    images, labels = draw_squares(12, 5)
    requests = [predict(to_png(image[:, :, 0]), query="?heat_map=true") for image in images]
    inside = 0.0
    for label, response in zip(labels, ask(make_client(), *requests), strict=True):
        heat = np.array(response.json()["heat_map"])
        assert heat.shape == (7, 7)
        assert (heat.min(), heat.max()) >= (0, 1)
        top, left = 3 * np.array(divmod(int(label), 2))  # the middle row and column are of both halves
        inside += heat[top : top + 4, left : left + 4].sum() / heat.sum()
    assert inside / len(images) > 0.6  # of even heat 0.33 would be there


def test_health_and_metrics_say_what_was_done(
    make_client: Callable[..., httpx.AsyncClient], model: ServedModel, image: bytes
) -> None:
    client = make_client()

    async def use() -> tuple[Any, str]:
        async with client:
            for content in (image, NOISE, b"none"):
                await client.post("/predict", content=content, headers=PNG)
            return (await client.get("/health")).json(), (await client.get("/metrics")).text

    health, metrics = asyncio.run(use())
    assert (health["status"], health["classes"], health["rejects"]) == ("ok", list(CLASSES), True)
    assert 'raysweep_requests_total{path="/predict",status="200"} 2.0' in metrics
    assert 'raysweep_requests_total{path="/predict",status="422"} 1.0' in metrics
    assert "raysweep_rejected_images_total 1.0" in metrics
    assert "raysweep_predict_seconds_count 2.0" in metrics
    assert "raysweep_waiting_images 0.0" in metrics


# Refusals


def assert_refused(response: httpx.Response, status: int, text: str) -> None:
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert re.search(text, response.json()["error"])


async def send_in_parts(content: bytes, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for part in (content[:5], content[5:]):
        yield part
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("headers", [PNG, PNG | {"Content-Length": "5"}, PNG | {"Content-Length": "none"}])
def test_an_image_that_is_too_large_is_refused_whatever_its_header_says(
    make_client: Callable[..., httpx.AsyncClient], headers: dict[str, str]
) -> None:
    (response,) = ask(make_client(Limits(max_bytes=100)), predict(send_in_parts(bytes(101)), headers))
    assert_refused(response, 413, "at most 100 bytes")


def test_an_image_whose_header_says_that_it_is_too_large_is_not_read(
    make_client: Callable[..., httpx.AsyncClient],
) -> None:
    read = []

    async def watch() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    headers = PNG | {"Content-Length": "101"}
    (response,) = ask(make_client(Limits(max_bytes=100)), predict(watch(), headers))
    assert_refused(response, 413, "at most 100 bytes")
    assert not read


@pytest.mark.parametrize(
    ("content", "headers", "status", "text"),
    [
        (NOISE, {}, 415, "got ''"),
        (NOISE, {"Content-Type": "text/plain"}, 415, "got 'text/plain'"),
        (NOISE, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "image/jpeg"),
        (b"", PNG, 422, "empty"),
        (b"<svg/>", {"Content-Type": "image/svg+xml"}, 422, "known format"),
        (NOISE[:100], PNG, 422, "truncated"),
    ],
)
def test_what_is_no_image_is_refused(
    make_client: Callable[..., httpx.AsyncClient], content: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    (response,) = ask(make_client(), predict(content, headers))
    assert_refused(response, status, text)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    make_client: Callable[..., httpx.AsyncClient],
) -> None:
    header = bytearray(NOISE)
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (response,) = ask(make_client(), predict(bytes(header)))
    assert_refused(response, 422, "over the limit")


def test_more_than_the_rate_are_refused(
    make_client: Callable[..., httpx.AsyncClient], image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysweep.serve.app.RateLimit", partial(RateLimit, clock=lambda: 0.0))
    responses = ask(make_client(Limits(rate=3)), *[predict(image)] * 8)
    codes = sorted(response.status_code for response in responses)
    assert codes == [200] * 3 + [429] * 5
    refused = next(response for response in responses if response.status_code == 429)
    assert_refused(refused, 429, "at most 3 images a second")
    assert refused.headers["Retry-After"] == "1"


def test_the_rate_is_held_over_time() -> None:
    now = 0.0
    limit = RateLimit(2, lambda: now)

    def count(tries: int) -> int:
        taken = 0
        for _ in range(tries):
            try:
                limit.take()
            except Refusal:
                continue
            taken += 1
        return taken

    assert count(5) == 2
    now = 0.5
    assert count(5) == 1
    now = 100.0
    assert count(5) == 2


def test_more_at_once_than_fit_are_refused(make_client: Callable[..., httpx.AsyncClient], image: bytes) -> None:
    async def answer(query: Query) -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return {"rejected": False}

    responses = ask(make_client(Limits(max_waiting=2), answer=answer), *[predict(image)] * 5)
    assert sorted(response.status_code for response in responses) == [200, 200, 429, 429, 429]


def test_a_slow_sender_is_refused_and_leaves_its_place(
    make_client: Callable[..., httpx.AsyncClient], image: bytes
) -> None:
    client = make_client(Limits(max_waiting=1, body_timeout_s=0.05))

    async def send() -> list[httpx.Response]:
        async with client:
            slow = await client.post("/predict", content=send_in_parts(image, 5.0), headers=PNG)
            return [slow, await client.post("/predict", content=image, headers=PNG)]

    slow, next_one = asyncio.run(send())
    assert_refused(slow, 408, "within 0.05 seconds")
    assert next_one.status_code == 200


def test_a_fault_of_the_model_is_one_sentence_without_its_text(
    make_client: Callable[..., httpx.AsyncClient], image: bytes
) -> None:
    async def answer(query: Query) -> dict[str, Any]:
        raise RuntimeError("/home/me/secret")

    (response,) = ask(make_client(answer=answer), predict(image))
    assert_refused(response, 500, "RuntimeError")
    assert "secret" not in response.text


@pytest.mark.parametrize(("verb", "path", "status"), [("GET", "/predict", 405), ("GET", "/../etc/passwd", 404)])
def test_other_paths_and_methods_are_refused(
    make_client: Callable[..., httpx.AsyncClient], verb: str, path: str, status: int
) -> None:
    (response,) = ask(make_client(), (verb, path, {}))
    assert_refused(response, status, "POST /predict")


# What SECURITY.md says


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/predict"])
def test_a_local_server_answers_to_no_name_that_another_may_have_given_it(
    make_client: Callable[..., httpx.AsyncClient], path: str
) -> None:
    verb = "POST" if path == "/predict" else "GET"
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil.example", "[", ""):
        (response,) = ask(make_client(), (verb, path, {"headers": {"Host": host}}))
        assert_refused(response, 400, "localhost")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        (response,) = ask(make_client(), (verb, path, {"headers": {"Host": host}}))
        assert response.status_code == (415 if verb == "POST" else 200)
    (response,) = ask(make_client(host="0.0.0.0"), ("GET", "/health", {"headers": {"Host": "models.example"}}))
    assert response.status_code == 200


def test_another_site_s_page_can_send_no_image(make_client: Callable[..., httpx.AsyncClient]) -> None:
    """A browser asks first for a type that is not of a form, and is told no."""
    asks_first = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    (response,) = ask(make_client(), ("OPTIONS", "/predict", {"headers": asks_first}))
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_browser_runs_the_page_s_own_script_alone(make_client: Callable[..., httpx.AsyncClient]) -> None:
    (response,) = ask(make_client(), ("GET", "/", {}))
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_names_of_classes_and_files_are_text_on_the_page() -> None:
    text, _ = load_page()
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\son\w+=", text)
    assert not re.findall(r"(?:https?:)?//[a-z]", text)
    assert json.dumps(CLASSES[0]) not in text


@pytest.fixture(scope="module")
def opened_to_write() -> Iterator[list[str]]:
    """Files that this process opens to write, and folders that it makes, while the fixture is in use."""
    found: list[str] = []
    watching = True

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if not watching:
            return
        writes = event == "open" and isinstance(values[0], str | bytes) and (values[2] or 0) & 3
        if writes or event in ("os.mkdir", "tempfile.mkstemp", "os.rename", "shutil.copyfile"):
            found.append(str(values[0]))

    sys.addaudithook(watch)
    yield found
    watching = False


def test_no_image_is_stored(
    make_client: Callable[..., httpx.AsyncClient], image: bytes, tmp_path: Path, opened_to_write: list[str]
) -> None:
    (tmp_path / "seen").write_text("x")
    assert opened_to_write
    opened_to_write.clear()
    large = to_png(np.random.default_rng(1).integers(0, 256, (1500, 1500)))
    answers = ask(make_client(), predict(image, query="?heat_map=true"), predict(large), predict(b"none"))
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    gc.collect()
    assert not opened_to_write


def test_gradients_leave_the_weights_as_they_are(model: ServedModel, image: bytes) -> None:
    before = {name: value.clone() for name, value in model.labeller.network.state_dict().items()}
    model.answer([Query(model.decode(image), heat_map=True)])
    assert all(torch.equal(value, before[name]) for name, value in model.labeller.network.state_dict().items())
    assert all(parameter.grad is None for parameter in model.labeller.network.parameters())
