"""How requests are refused: always as JSON, {"error": one sentence}.

Knows the kinds of errors and their status; knows nothing of what was asked for.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from capture.errors import FrameError, TakeNotFoundError, UserError

log = logging.getLogger("realmaster.daemon")


class Refusal(BaseModel):
    """What every refused request is answered with."""

    error: str
    """One sentence."""


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": meaning}
    for status, meaning in (
        (400, "The request cannot be read"),
        (404, "There is no such thing"),
        (409, "That is not possible now"),
        (422, "A value is missing or of the wrong kind"),
        (503, "The daemon did not answer in time"),
    )
}
"""For the OpenAPI description."""


def answer_errors(app: FastAPI) -> None:
    """Have every refusal of `app` answered in one form."""
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TimeoutError, _too_late)
    app.add_exception_handler(Exception, _bug)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    status = 404 if isinstance(error, TakeNotFoundError | FrameError) else 409
    return JSONResponse({"error": str(error)}, status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    sentence = "There is nothing at this address." if error.status_code == 404 else f"{error.detail.rstrip('.')}."
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return JSONResponse({"error": f"{where}: {first['msg']}."}, 422)


async def _too_late(request: Request, error: Exception) -> JSONResponse:
    log.warning("a request was not answered in time: %s %s", request.method, request.url.path)
    return JSONResponse({"error": "The daemon did not answer in time; try again in a moment."}, 503)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("a request failed: %s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "The daemon failed at this request; its log has the details."}, 500)
