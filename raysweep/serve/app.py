"""The server as an ASGI application: page, endpoint, health and metrics. Knows nothing of Ray."""

import asyncio
import base64
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import prometheus_client as prometheus
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from raysweep.data.decode import UndecodableImage
from raysweep.serve.limits import Limits, RateLimit, Refusal, is_loopback, read_body
from raysweep.serve.model import Query, ServedModel

Answer = Callable[[Query], Awaitable[dict[str, Any]]]
PAGE = Path(__file__).with_name("page.html")
NUM_DECODERS = 4
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
UNKNOWN_PATH = "other"
LOGGER = logging.getLogger(__name__)


class Server:
    """Handles requests; images are in memory until they are answered, and nowhere else."""

    def __init__(self, model: ServedModel, answer: Answer, limits: Limits, host: str) -> None:
        """Makes a server.

        answer: labels an image; batches what comes at once. host: the address that is listened on.
        """
        self.model, self.answer, self.limits = model, answer, limits
        self.is_local = is_loopback(host)
        self.rate_limit = RateLimit(limits.rate)
        self.waiting = 0
        self.decoders = ThreadPoolExecutor(NUM_DECODERS, "decode")
        self.page, self.policy = load_page()
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "raysweep_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.rejected = prometheus.Counter(
            "raysweep_rejected_images", "Images that are of none of the classes.", registry=self.registry
        )
        self.seconds = prometheus.Histogram(
            "raysweep_predict_seconds", "Time from a request for labels to its answer.", registry=self.registry
        )
        prometheus.Gauge(
            "raysweep_waiting_images", "Images that are being received, decoded or labelled.", registry=self.registry
        ).set_function(lambda: self.waiting)

    def build_app(self) -> Starlette:
        """Builds the application."""
        routes = {
            "/": ("GET", self.show_page),
            "/predict": ("POST", self.predict),
            "/health": ("GET", self.show_health),
            "/metrics": ("GET", self.show_metrics),
        }
        return Starlette(
            routes=[Route(path, self._guard(path, handle), methods=[verb]) for path, (verb, handle) in routes.items()],
            exception_handlers={HTTPException: self._refuse_request},
        )

    def _guard(
        self, path: str, handle: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Turns refusals and faults into answers, and counts all."""

        async def guarded(request: Request) -> Response:
            try:
                self._check_host(request)
                response = await handle(request)
            except Refusal as refusal:
                response = _say_error(refusal.status, str(refusal), refusal.headers)
            except ClientDisconnect:
                response = _say_error(400, "the sender hung up")
            except Exception as error:  # of the model, or a defect: the sender learns its type, the log all
                LOGGER.exception("a request for %s failed", path)
                response = _say_error(500, f"the server failed: {type(error).__name__}")
            response.headers.update(HEADERS)
            self.requests.labels(path, response.status_code).inc()
            return response

        return guarded

    async def _refuse_request(self, request: Request, error: Exception) -> Response:
        """Answers requests for a path or with a method that there is not."""
        assert isinstance(error, HTTPException)
        self.requests.labels(UNKNOWN_PATH, error.status_code).inc()
        known = "the paths are GET /, POST /predict, GET /health and GET /metrics"
        return _say_error(error.status_code, f"{known}, got {request.method} {request.url.path[:100]}", HEADERS)

    def _check_host(self, request: Request) -> None:
        """Refuses names that another's DNS may have given to this machine: a page there could read the answers.

        Raises:
            Refusal: 400, a server on this machine alone is asked by another name.
        """
        # Not request.url: it takes the server's own address where the header is none.
        found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", request.headers.get("host", ""))
        if self.is_local and not is_loopback(found[1].strip("[]") if found else ""):
            raise Refusal(400, "this server answers to localhost and 127.0.0.1 alone; ask it by one of them")

    async def show_page(self, request: Request) -> Response:
        """Returns the page."""
        return HTMLResponse(self.page, headers={"Content-Security-Policy": self.policy})

    async def show_health(self, request: Request) -> Response:
        """Says that the model answers, which it is, and what is taken."""
        return JSONResponse({"status": "ok", **self.model.describe(), "max_bytes": self.limits.max_bytes})

    async def show_metrics(self, request: Request) -> Response:
        """Returns counts and times in Prometheus' text format."""
        return Response(prometheus.generate_latest(self.registry), media_type=prometheus.CONTENT_TYPE_LATEST)

    async def predict(self, request: Request) -> Response:
        """Labels the image that is the request's body.

        Raises:
            Refusal: its type, size or number is not taken, or it gives no image.
        """
        began = time.perf_counter()
        kind = request.headers.get("content-type", "")
        if not kind.startswith("image/"):
            raise Refusal(415, f"Content-Type must be that of an image, such as image/jpeg, got {kind[:100]!r}")
        self.rate_limit.take()
        if self.waiting >= self.limits.max_waiting:
            message = f"at most {self.limits.max_waiting} images are taken at once; try again later"
            raise Refusal(429, message, {"Retry-After": "1"})
        self.waiting += 1
        try:
            row = await self._label(request)
        finally:
            self.waiting -= 1
        self.rejected.inc(row["rejected"])
        self.seconds.observe(time.perf_counter() - began)
        return JSONResponse(row)

    async def _label(self, request: Request) -> dict[str, Any]:
        content = await read_body(request.stream(), request.headers.get("content-length"), self.limits)
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self.decoders, self.model.decode, content)
        except UndecodableImage as error:
            raise Refusal(422, f"an image must be a whole file of a known format: {error}") from None
        return await self.answer(Query(pixels, heat_map=request.query_params.get("heat_map") == "true"))


def load_page() -> tuple[str, str]:
    """Returns the page, and the policy that lets a browser run its script and style alone and ask this server alone."""
    text = PAGE.read_text(encoding="utf-8")

    def digest(tag: str) -> str:
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)[0]
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    policy = (
        f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _say_error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
