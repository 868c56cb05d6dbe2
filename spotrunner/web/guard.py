"""What stands before every call: the token, and a bound on the body."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spotrunner.core.located import Problem
from spotrunner.web import errors
from spotrunner.web.deps import MIB

# Of everything but an upload; the largest job file is far below it.
MAX_BODY_BYTES = MIB


class Guard:
    """ASGI middleware. `uploads` are the paths whose POST may be `max_upload_bytes` long."""

    def __init__(
        self, app: ASGIApp, *, token: str, uploads: frozenset[str], max_upload_bytes: int
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._uploads = uploads
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._max_upload_bytes if scope["path"] in self._uploads else MAX_BODY_BYTES
        if not self._knows_token(headers.get("authorization", "")):
            wrong = Problem(message="the token is missing or wrong")
            await errors.answer(errors.UNAUTHORIZED, [wrong])(scope, receive, send)
        elif _promised_bytes(headers) > limit:
            await errors.answer(errors.TOO_LARGE, _too_large(limit).problems)(scope, receive, send)
        else:
            await self._app(scope, _Bounded(receive, limit), send)

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, self._token)


class _Bounded:
    """Receives until the limit: a body that promises nothing, or lies, ends there too."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit_bytes:
            raise _too_large(self._limit_bytes)
        return message


def _promised_bytes(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def _too_large(limit_bytes: int) -> errors.ApiError:
    return errors.one(errors.TOO_LARGE, f"more than {limit_bytes / MIB:g} MiB are not taken")
