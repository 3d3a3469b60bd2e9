"""The HTTP API, version 1, and the page. Everything the page does goes through here.

Works on `Service` and `Library`; knows nothing of ZeroMQ or models. Errors are JSON: {"error": one sentence}. The
OpenAPI description is at /api/v1/openapi.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from capture.errors import FrameError, TakeNotFoundError, UserError
from capture.frame import CANONICAL, CanonicalName
from daemon.preview import Picture

if TYPE_CHECKING:
    from daemon.service import Service

log = logging.getLogger("realmaster.daemon")

STATE_SECONDS = 0.2
"""A changed state is pushed at most this often."""

UNACKNOWLEDGED = 3
"""Pictures on their way to one browser; a slow one sees fewer, never older ones."""

EXAMINATION_SECONDS = 90.0
"""How long a request waits for an examination."""

STREAM_VIEWS = (*CANONICAL, "source", "lifted")
PICTURE_HEADER = struct.Struct("<BBHIQd")
"""Before each JPEG of /stream: index in STREAM_VIEWS, zero, zero, number to acknowledge, serial, engine time [s]."""


class SessionChoice(BaseModel):
    model_config = ConfigDict(extra="forbid")
    session: Annotated[str | None, Field(max_length=64, description="session id; all sessions when null")] = None


class ReplayChoice(SessionChoice):
    seconds: Annotated[float | None, Field(gt=0, le=86400, description="all that is kept when null")] = None


class LiftRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    take: Annotated[str, Field(max_length=128, description="name of the take")]
    frames: Annotated[
        tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)] | None],
        Field(description="[a, b): first frame and the one after the last; b null means to the end"),
    ] = (0, None)
    prompt: Annotated[str, Field(max_length=2000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    steps: Annotated[int | None, Field(ge=1, le=200, description="sampling steps; the model's own when null")] = None


class LiveRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    on: bool
    prompt: Annotated[str, Field(max_length=2000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    steps: Annotated[int | None, Field(ge=1, le=200)] = None


def create_app(service: Service) -> FastAPI:
    """The app of one daemon. It does not say who may use it: see `guard`."""
    app = FastAPI(
        title="realmaster daemon",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(_api(service), prefix="/api/v1")
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _bug)
    app.mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True))
    return app


def _api(service: Service) -> APIRouter:
    api = APIRouter()
    library = service.library

    @api.get("/state")
    def state() -> dict[str, Any]:
        """Sessions, recordings, lifts, takes: what the page shows."""
        return service.state()

    @api.get("/takes")
    def takes() -> list[dict[str, Any]]:
        """All takes, newest first."""
        return service.state()["takes"]

    @api.get("/takes/{name}")
    def take(name: str) -> dict[str, Any]:
        """One take, with the engine time of each of its frames."""
        return library.summary(name) | {"times": library.times(name)}

    @api.get("/takes/{name}/frame/{index}.jpg", response_class=Response)
    def frame(
        name: str, index: int, channel: CanonicalName = "color", width: Annotated[int, Query(ge=16, le=4096)] = 960
    ) -> Response:
        """One frame as a JPEG no wider than `width`; index from 0, negative from the end."""
        headers = {"Cache-Control": "private, max-age=60"}
        return Response(library.jpeg(name, index, channel, width), media_type="image/jpeg", headers=headers)

    @api.get("/takes/{name}/lifts/{lift}/{file}", response_class=FileResponse)
    def lift_file(name: str, lift: str, file: str) -> FileResponse:
        """A file of a lift: lifted.mp4 (byte ranges are understood), report.json, stills."""
        return FileResponse(library.lift_file(name, lift, file))

    @api.get("/takes/{name}/export", response_class=FileResponse)
    def export(name: str, to: Literal["mp4"] = "mp4", channel: CanonicalName = "color") -> FileResponse:
        """The take as a video that any player opens; made when asked for."""
        from capture.export import export_mp4

        source = library.take(name)
        folder = tempfile.TemporaryDirectory(prefix="realmaster-export-")
        try:
            out = Path(folder.name) / f"{name}-{channel}.mp4"
            export_mp4(source, out, channel=channel, fit=True)
        except BaseException:
            folder.cleanup()
            raise
        return FileResponse(out, filename=out.name, media_type="video/mp4", background=BackgroundTask(folder.cleanup))

    @api.post("/record/start")
    def record_start(choice: SessionChoice | None = None) -> dict[str, list[str]]:
        """Begin a take of one session or of each."""
        return {"takes": service.record_start(choice.session if choice else None)}

    @api.post("/record/stop")
    def record_stop(choice: SessionChoice | None = None) -> dict[str, list[str]]:
        """End the takes of one session or of each."""
        return {"takes": service.record_stop(choice.session if choice else None)}

    @api.post("/replay/save")
    def replay_save(choice: ReplayChoice | None = None) -> dict[str, list[str]]:
        """Keep the last seconds as a take."""
        choice = choice or ReplayChoice()
        return {"takes": service.replay_save(choice.session, choice.seconds)}

    @api.get("/sessions/{session}/health")
    def health(session: str) -> dict[str, Any]:
        """Examine what a session sends just now: are its channels of one frame, and is everything as declared?"""
        return service.health.examine(session).result(EXAMINATION_SECONDS)

    @api.get("/sessions/{session}/health.png", response_class=Response)
    def health_picture(session: str) -> Response:
        """The last examination of a session as a picture."""
        picture = service.health.picture(session).result(EXAMINATION_SECONDS)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})

    @api.get("/lifts")
    def lifts() -> list[dict[str, Any]]:
        """The lift queue, newest first."""
        return service.state()["lifts"]

    @api.post("/lifts", status_code=201)
    def lift(request: LiftRequest) -> dict[str, Any]:
        """Queue a lift."""
        first, end = request.frames
        if end is not None and end <= first:
            raise UserError(f"The range of frames {first}:{end} is empty: its end must lie after its beginning.")
        job = service.lift(request.take, (first, end), request.prompt, request.seed, request.steps)
        return {"id": job.id, "take": job.take, "lift": job.lift, "state": job.state}

    @api.delete("/lifts/{job}")
    def cancel(job: str) -> dict[str, Any]:
        """Cancel a lift that is queued or running."""
        cancelled = service.lifts.cancel(job)
        return {"id": cancelled.id, "state": cancelled.state}

    @api.post("/live")
    def live(request: LiveRequest) -> dict[str, Any]:
        """Switch live lifting."""
        service.live.set(request.on, request.prompt, request.seed, request.steps)
        return service.live.state()

    @api.websocket("/events")
    async def events(socket: WebSocket) -> None:
        """Pushes the whole state whenever it changed."""
        await socket.accept()
        async with _until_closed(socket):
            last = None
            while True:
                state = await asyncio.to_thread(service.state)
                if state != last:
                    await socket.send_text(json.dumps(state))
                    last = state
                await asyncio.sleep(STATE_SECONDS)

    @api.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        """Live pictures. The browser sends {"watch": [views], "session": id or null} and {"ack": number}; it gets
        PICTURE_HEADER + JPEG, the newest of each view, at most UNACKNOWLEDGED ahead of its acknowledgements."""
        await socket.accept()
        await _Viewer(service, socket).run()

    return api


class _Viewer:
    """One browser's live pictures: the newest of each view, sent as fast as it acknowledges them."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service, self._socket = service, socket
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._newest: dict[str, Picture] = {}
        self._session: str | None = None
        self._sent = self._acknowledged = 0

    async def run(self) -> None:
        sender = asyncio.create_task(self._send())
        try:
            while True:
                self._hear(json.loads(await self._socket.receive_text()))
        except (WebSocketDisconnect, ValueError, KeyError, TypeError):
            pass
        finally:
            self._service.watch(self, self._offer, ())
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sender
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has closed already
                await self._socket.close()

    def _hear(self, message: dict[str, Any]) -> None:
        if "ack" in message:
            self._acknowledged = max(self._acknowledged, min(int(message["ack"]), self._sent))
            self._changed.set()
        if "watch" in message:
            self._session = message.get("session")
            self._newest.clear()
            self._service.watch(self, self._offer, tuple(view for view in STREAM_VIEWS if view in message["watch"]))

    def _offer(self, picture: Picture) -> None:
        """Called from the service's threads."""
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._take, picture)

    def _take(self, picture: Picture) -> None:
        if picture.session == (self._session or self._service.newest_session()):
            self._newest.pop(picture.view, None)
            self._newest[picture.view] = picture
            self._changed.set()

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._newest and self._sent - self._acknowledged < UNACKNOWLEDGED:
                view = next(iter(self._newest))
                picture = self._newest.pop(view)
                self._sent += 1
                header = PICTURE_HEADER.pack(STREAM_VIEWS.index(view), 0, 0, self._sent, picture.serial, picture.time)
                await self._socket.send_bytes(header + picture.jpeg)


@contextlib.asynccontextmanager
async def _until_closed(socket: WebSocket) -> AsyncIterator[None]:
    """Ends the body, quietly, when the other side closes the socket."""
    body = asyncio.current_task()
    assert body is not None
    closed = False

    async def hear() -> None:
        nonlocal closed
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
            while True:
                await socket.receive_text()
        closed = True
        body.cancel()

    listener = asyncio.create_task(hear())
    try:
        yield
    except WebSocketDisconnect:
        pass
    except asyncio.CancelledError:
        if not closed:
            raise
        body.uncancel()
    finally:
        listener.cancel()


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    status = 404 if isinstance(error, TakeNotFoundError | FrameError) else 409
    return JSONResponse({"error": str(error)}, status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    sentence = "There is nothing at this address." if error.status_code == 404 else f"{error.detail}."
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return JSONResponse({"error": f"{where}: {first['msg']}."}, 422)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("a request failed: %s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "The daemon failed at this request; its log has the details."}, 500)
