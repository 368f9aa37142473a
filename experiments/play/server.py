"""Server: serves the page on this machine's loopback address alone, and samples for it, one image at a time.

Whoever opens another site beside this page must not be able to use it through the browser: requests with another Host
(a name that resolves to 127.0.0.1) or of another Origin are refused.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from evaluator.reporting.page.sprites import base64
from experiments.play.image_request import ImageRequest, read_request
from experiments.play.page import PlayPage
from experiments.play.session import Moment, Session
from lab.errors import LabError
from lab.text import printable
from lab.types import PixelImage

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
"""The hosts in whose name the page may be opened."""
MOST_BYTES = 16 * 2**10
"""Bytes of a request."""
MOST_CONNECTIONS = 64
SECONDS_TO_END = 1
"""Seconds that an answer may still take after Ctrl-C."""


class Turns:
    """Samples for one request at a time; a newer request ends an older one, whichever tab it comes from.

    One thread computes every step, so no two steps overlap. An older request learns of the newer one before its next
    step.

    Args:
        session: what samples.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sampling")
        self._newest = 0

    def answer(self, wanted: ImageRequest) -> AsyncIterator[str]:
        """Take the turn, and return the lines of the answer: a JSON object for each step, then one for the end."""
        self._newest += 1
        return self._lines(wanted, self._newest)

    async def _lines(self, wanted: ImageRequest, turn: int) -> AsyncIterator[str]:
        loop, moments = asyncio.get_running_loop(), self._session.moments(wanted)
        warning = self._session.warning(wanted)
        moment: Moment | None = None
        following = loop.run_in_executor(self._thread, _next, moments)
        try:
            while turn == self._newest:
                finished, moment = moment, await following
                if moment is None:
                    assert finished is not None
                    yield _line(**await loop.run_in_executor(self._thread, self._end, finished))
                    return
                # The next step is computed while this one is sent.
                following = loop.run_in_executor(self._thread, _next, moments)
                yield _line(**_shown(moment, wanted), warning=warning)
            yield _line(replaced=True)
        except LabError as error:
            yield _line(error=printable(str(error)))
        finally:
            following.cancel()

    def _end(self, moment: Moment) -> dict[str, object]:
        return {"finished": True, "milliseconds": moment.milliseconds, "seen": self._session.opinion(moment.image)}

    def close(self) -> None:
        """Compute no further step."""
        self._newest = -1
        self._thread.shutdown(wait=False, cancel_futures=True)


def _next(moments: Iterator[Moment]) -> Moment | None:
    return next(moments, None)


def _line(**content: object) -> str:
    return json.dumps(content) + "\n"


def _shown(moment: Moment, wanted: ImageRequest) -> dict[str, object]:
    """Return a step as JSON's types; pixels are Base64 of (C, H, W) bytes."""

    def pixels(image: PixelImage | None) -> str | None:
        return None if image is None else base64(image.numpy().tobytes())

    predictions = moment.predictions
    return {
        "step": moment.step,
        "of": wanted.sampler.sampling_steps,
        "timestep": predictions.timestep,
        "milliseconds": moment.milliseconds,
        "image": pixels(moment.image),
        "conditional": pixels(predictions.conditional),
        "unconditional": pixels(predictions.unconditional),
        "mixed": pixels(predictions.mixed),
    }


class OwnPageAlone:
    """Refuses requests in the name of another host, and those that another site's page makes.

    Args:
        application: what answers the others.
        port: of the server.
    """

    def __init__(self, application: ASGIApp, port: int) -> None:
        self._application = application
        self._hosts = {f"{name}:{port}" for name in NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        answer: ASGIApp = self._application
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            hosts, origins = headers.getlist("host"), headers.getlist("origin")
            own = len(hosts) == 1 and hosts[0] in self._hosts
            if not own or any(origin != f"http://{hosts[0]}" for origin in origins):
                answer = PlainTextResponse("refused: this page answers its own address alone\n", 403)
        await answer(scope, receive, send)


async def _body(request: Request) -> bytes:
    """Return a request's body.

    Raises:
        LabError: it is larger than `MOST_BYTES`; the rest is not read.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise LabError(f"the request is too large; it may have {MOST_BYTES} bytes")
    return body


def application(session: Session, page: PlayPage, turns: Turns, port: int) -> ASGIApp:
    """Return what answers requests: the page at /, and POST /sample with a line of JSON for each step.

    Args:
        session: what samples.
        page: the page.
        turns: whose turn it is to sample.
        port: of the server.
    """

    async def shown(request: Request) -> Response:
        headers = {
            "Content-Security-Policy": page.policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(page.html, headers=headers)

    async def sampled(request: Request) -> Response:
        try:
            wanted = read_request(await _body(request), session.checkpoint.vocabulary)
            session.require_fit(wanted)
        except LabError as error:
            return Response(_line(error=printable(str(error))), 400, media_type="application/x-ndjson")
        return StreamingResponse(turns.answer(wanted), media_type="application/x-ndjson")

    routes = [Route("/", shown), Route("/sample", sampled, methods=["POST"])]
    return OwnPageAlone(Starlette(routes=routes), port)


def bound(port: int) -> socket.socket:
    """Return a socket that listens on the loopback address; port 0 takes one that is free.

    Raises:
        LabError: the port is in use.
    """
    listening = socket.socket()
    # Otherwise a port stays closed for a minute after a server on it has ended.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
    except OSError as error:
        listening.close()
        raise LabError(
            f"--port {port} cannot be used ({error.strerror}); choose another, or 0 for a free one"
        ) from None
    listening.listen()
    return listening


def serve(session: Session, page: PlayPage, listening: socket.socket) -> None:
    """Serve the page until Ctrl-C."""
    turns = Turns(session)
    config = uvicorn.Config(
        application(session, page, turns, listening.getsockname()[1]),
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises the signal again after it has ended
        pass
    finally:
        turns.close()
        listening.close()
