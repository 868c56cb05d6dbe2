"""One format for everything that is wrong: `{"errors": [{line, key, message, hint}]}`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from spotrunner.core.located import Problem, dotted
from spotrunner.ports import Misconfigured, NotAuthorized, PortError, Unavailable

log = structlog.get_logger(__name__)

BAD_REQUEST = 400
UNAUTHORIZED = 401
# AWS does not allow the daemon what was asked for; 401 is of the API's own token.
FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
TOO_LARGE = 413
UNPROCESSABLE = 422
# What the daemon was set up with is not there, or not as it was named.
FAILED_DEPENDENCY = 424
FAILED = 500
UNAVAILABLE = 503


class ApiError(Exception):
    """An answer that is an error; `problems` are all that is wrong."""

    def __init__(self, status: int, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.status = status
        self.problems = tuple(problems)


def refused(problems: Sequence[Problem]) -> ApiError:
    """The input is wrong: nothing was done."""
    return ApiError(UNPROCESSABLE, problems)


def one(status: int, message: str, key: str = "", hint: str = "") -> ApiError:
    return ApiError(status, [Problem(message=message, key=key, hint=hint)])


def answer(status: int, problems: Iterable[Problem]) -> JSONResponse:
    return JSONResponse({"errors": plain_all(problems)}, status)


def plain(problem: Problem) -> dict[str, object]:
    """`line` is always null: the API is sent fields, and only who has the file knows its lines."""
    return {
        "line": problem.line,
        "key": problem.key,
        "message": problem.message,
        "hint": problem.hint,
    }


def plain_all(problems: Iterable[Problem]) -> list[dict[str, object]]:
    return [plain(problem) for problem in problems]


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_query)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(PortError, _on_port)
    app.add_exception_handler(Exception, _on_bug)


def _on_api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return answer(error.status, error.problems)


def _on_query(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = [
        Problem(message=str(each["msg"]), key=dotted(tuple(each["loc"][1:])))
        for each in error.errors()
    ]
    return answer(UNPROCESSABLE, wrong)


def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer(error.status_code, [Problem(message=str(error.detail))])


def _on_port(request: Request, error: Exception) -> JSONResponse:
    """Only silence is worth another try: what AWS refuses or lacks, a person has to mend."""
    if not isinstance(error, (Unavailable, NotAuthorized, Misconfigured)):
        return _on_bug(request, error)
    log.warning("a call could not be answered", path=request.url.path, error=str(error))
    if isinstance(error, NotAuthorized):
        problem = Problem(
            message=f"AWS does not allow it to the daemon: {error}",
            hint="mend that first: trying again does not help",
        )
        return answer(FORBIDDEN, [problem])
    if isinstance(error, Misconfigured):
        problem = Problem(
            message=f"the daemon cannot do it as it is set up: {error}",
            hint="mend that first: trying again does not help",
        )
        return answer(FAILED_DEPENDENCY, [problem])
    return answer(UNAVAILABLE, [Problem(message=str(error), hint="try again")])


def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("a call failed", path=request.url.path, error=repr(error))
    return answer(FAILED, [Problem(message=f"{type(error).__name__} in {request.url.path}")])
