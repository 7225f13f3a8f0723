"""The app over HTTP: its page, and POST /predict, whose answer is JSON, a line each, until the last one has the report.

Whoever asks is taken for a stranger: what is read is bounded in bytes, time and number, no name that comes with a file
becomes a path, and pages of other sites, which a browser would let ask too, are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import shutil
import socket as sockets
import sys
import time
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jinja2
import python_multipart  # noqa: F401 without it a form is refused when the first one comes
import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from common.console import InputError
from dataloader.importing.video_files import VIDEO_SUFFIXES
from prediction.page import policy_hash

if TYPE_CHECKING:
    from prediction.app.answering import Answerer, Question

LONGEST = 5_000  # characters of a title, and of all else that is typed
MOST_INSIDE = 16  # questions that are read, waited with or answered at once; more are sent away
STALLED = 30.0  # seconds after which a sender who sends nothing is given up
BESIDE = 1_000_000  # bytes of a form beside its file
LINES = "application/x-ndjson"


# ---- who may ask ----------------------------------------------------------------------------------------------------


def is_local(host: str) -> bool:
    """Whether a name or an address means the machine that it is said on."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def refusal(headers: Headers, local: bool) -> str | None:
    """Why a request is refused. local: the app answers this machine alone.

    A page of another site could ask by its visitor's browser: it says where it is from (Origin), or has made its own
    name mean this machine (Host).
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        foreign = origin is not None and urlsplit(origin).netloc != host
    except ValueError:
        return "The address that was asked is none."
    if local and not is_local(name):
        return "This app answers under 127.0.0.1 and localhost alone; --host lets it answer under others."
    return "This app answers its own page alone." if foreign else None


class Guard:
    """Around the app: refuses, and says with every answer what a browser may do with it."""

    def __init__(self, app, local: bool, policy: str):
        self.app, self.local, self.policy = app, local, policy

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with(message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self.policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers["Cache-Control"] = "no-store"
            await send(message)

        why = refusal(Headers(scope=scope), self.local)
        answer = JSONResponse({"error": why}, 403) if why else self.app
        await answer(scope, receive, send_with)


# ---- what is asked --------------------------------------------------------------------------------------------------


async def read_question(request: Request, answerer: Answerer, most_bytes: int) -> Question:
    """What the form says, its file on the disk; HTTPException for what cannot be asked."""
    read, least = 0, most_bytes + BESIDE
    too_large = HTTPException(413, f"The video is larger than {most_bytes / 1e6:g} MB, which is the most (--max_mb).")

    async def receive():
        nonlocal read
        try:
            message = await asyncio.wait_for(request.receive(), STALLED)
        except asyncio.TimeoutError:
            raise HTTPException(408, f"Nothing came for {STALLED:g} s.") from None
        read += len(message.get("body", b""))
        if read > least:
            await drained(request, most_bytes)
            raise too_large
        return message

    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > least:
        await drained(request, most_bytes)
        raise too_large
    fields = len(answerer.columns) + 2
    async with Request(request.scope, receive).form(max_files=1, max_fields=fields, max_part_size=BESIDE) as form:
        texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        for name, value in texts.items():
            if len(value) > LONGEST:
                raise HTTPException(422, f"{name}: {len(value)} characters, and {LONGEST} is the most.")
        given = {f"known_{i}": name for i, name in enumerate(answerer.columns)}
        known = {given[name]: value for name, value in texts.items() if name in given and value.strip()}
        files = [value for _, value in form.multi_items() if not isinstance(value, str) and value.filename]
        title = texts.get("title", "").strip()
        suffix = checked(answerer, title, files)
        if files and (files[0].size or 0) > most_bytes:
            raise too_large
        question = replace(answerer.question(), title=title, known=known)
        if not files:
            return question
        try:
            path = answerer.place_of_video(question, suffix)
            await asyncio.to_thread(copied, files[0], path)
        except BaseException as error:
            question.forget()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise HTTPException(507, "There is no space left for the video on the app's disk.") from None
            raise
        return replace(question, video=path)


def checked(answerer: Answerer, title: str, files: list[UploadFile]) -> str:
    """The suffix of the file, if there is one; HTTPException where the run cannot do with what it is given."""
    if answerer.takes_videos and not files:
        raise HTTPException(422, "This run looks at frames: it needs a video, and not a title alone.")
    if not answerer.takes_videos and files:
        raise HTTPException(422, "This run looks at no frames: it needs no video, and would not look at it.")
    if not (title or files):
        raise HTTPException(422, "There is no title.")
    suffix = Path(files[0].filename).suffix.lower() if files else ""
    if files and suffix not in VIDEO_SUFFIXES:
        raise HTTPException(422, f"The file's name ends in none of {', '.join(VIDEO_SUFFIXES)}.")
    return suffix


def copied(file: UploadFile, path: Path) -> None:
    with path.open("xb") as to:
        shutil.copyfileobj(file.file, to)


async def drained(request: Request, most_bytes: int) -> None:
    """Read some of what is sent, as a sender who is still sending does not hear an answer."""
    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
        read = 0
        while read < most_bytes:
            message = await asyncio.wait_for(request.receive(), 5)
            read += len(message.get("body", b""))
            if not message.get("more_body"):
                return


# ---- one after the other --------------------------------------------------------------------------------------------


class Turns:
    """Questions are answered by one thread, in the order in which they came."""

    def __init__(self, answerer: Answerer):
        self.answerer, self.inside = answerer, 0
        self.thread = ThreadPoolExecutor(1, "answering")
        self.row: list[Future] = []

    async def answer(self, question: Question) -> AsyncIterator[dict]:
        """How many are before it, each second; then its report, or what is wrong. Given up, it loses its place."""
        future = self.thread.submit(timed, self.answerer, question)
        future.add_done_callback(lambda _: question.forget())
        self.row.append(future)
        waited = asyncio.wrap_future(future)
        try:
            while not waited.done():
                yield {"before": self.row.index(future)}
                await asyncio.wait([waited], timeout=1)
            yield waited.result()
        finally:
            future.cancel()
            self.row.remove(future)


def timed(answerer: Answerer, question: Question) -> dict:
    start = time.perf_counter()
    try:
        report = answerer.answer(question)
    except InputError as error:
        return {"error": sentence(error)}
    except OSError as error:
        return {"error": sentence(f"the app's disk: {error.strerror or 'it failed'}")}
    except Exception:  # a bug: whoever runs the app sees where, and the next question is answered
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        return {"error": "Something is wrong in the app itself; the terminal that it runs in says what."}
    return {"report": report, "seconds": round(time.perf_counter() - start, 3)}


def sentence(error: object) -> str:
    words = " ".join(str(error).split())[:500]
    return f"No prediction: {words}{'' if words.endswith('.') else '.'}"


# ---- the app --------------------------------------------------------------------------------------------------------


def make_app(turns: Turns, most_bytes: int, *, local: bool = True) -> Guard:
    """The ASGI app. local: it answers under names of this machine alone."""
    app, answerer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), turns.answerer
    page, policy = page_of(answerer, most_bytes)

    @app.get("/")
    async def index() -> Response:
        return HTMLResponse(page)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        if turns.inside >= MOST_INSIDE:
            raise HTTPException(503, f"{turns.inside} others are before this one; try again later.")
        turns.inside += 1
        try:
            question = await read_question(request, answerer, most_bytes)
        except ClientDisconnect:
            turns.inside -= 1
            return Response(status_code=400)
        except BaseException:
            turns.inside -= 1
            raise

        async def lines() -> AsyncIterator[str]:
            try:
                async with contextlib.aclosing(turns.answer(question)) as said:
                    async for line in said:
                        yield json.dumps(line) + "\n"
            finally:
                turns.inside -= 1

        return StreamingResponse(lines(), media_type=LINES)

    @app.exception_handler(HTTPException)
    async def in_words(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    return Guard(app, local, policy)


def page_of(answerer: Answerer, most_bytes: int) -> tuple[str, str]:
    """The page, and its policy: beside its own script and style it lets those of a report act, in the frame."""
    here, reports = Path(__file__).parent, Path(__file__).parent.parent
    script, style = (here / "app.js").read_text("utf-8"), (here / "app.css").read_text("utf-8")
    theirs, shared = (reports / "page.js").read_text("utf-8"), (reports / "page.css").read_text("utf-8")
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(here), autoescape=True).get_template("app.html.j2")
    page = template.render(
        name=answerer.name,
        takes_videos=answerer.takes_videos,
        columns=answerer.columns,
        most_bytes=most_bytes,
        most_mb=f"{most_bytes / 1e6:g}",
        longest=LONGEST,
        suffixes=VIDEO_SUFFIXES,
        script=script,
        style=style,
        shared_style=shared,
    )
    named = [" ".join(f"'sha256-{policy_hash(one)}'" for one in of) for of in ((style, shared), (script, theirs))]
    policy = (
        f"default-src 'none'; img-src data:; connect-src 'self'; style-src {named[0]}; script-src {named[1]}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def bound(host: str, port: int) -> sockets.socket:
    """A socket at the address, which does not listen yet; InputError where there can be none."""
    try:
        family, kind, protocol, _, address = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: no address of this machine") from None
    socket = sockets.socket(family, kind, protocol)
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        socket.bind(address)
    except OSError as error:
        socket.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: in use at {host}; name another, or 0 for any that is free") from None
        if error.errno == errno.EACCES:
            raise InputError(f"--port {port}: not for this user; name one above 1023") from None
        raise InputError(f"--host {host}: no address of this machine") from None
    return socket


class Server(uvicorn.Server):
    """One that says where it is once it can be asked."""

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        (socket,) = sockets
        host, port = socket.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


def serve(answerer: Answerer, socket: sockets.socket, host: str, most_bytes: int) -> None:
    """Until Ctrl-C: who waits is sent away then, what is being answered is finished."""
    local = is_local(host)
    if not local:
        print(f"warning: --host {host}: whoever reaches it can ask, as there are no passwords", file=sys.stderr)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a form is said to its sender
    turns = Turns(answerer)
    app = make_app(turns, most_bytes, local=local)
    how = {"log_config": None, "access_log": False, "server_header": False, "timeout_graceful_shutdown": 1}
    server = Server(uvicorn.Config(app, **how, limit_concurrency=4 * MOST_INSIDE))
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[socket])
    finally:
        turns.thread.shutdown(cancel_futures=True)
