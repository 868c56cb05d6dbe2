"""Signatures by the time of S3. AWS refuses what was signed a quarter of an hour before or after
its own time, and a machine's clock may be further off; but every refusal tells the right time."""

from __future__ import annotations

from typing import Any

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth, SigV4Auth

from spotrunner.adapters.aws.clock import ServerClock

_CLOCK = "spotrunner_clock"


def sign_by(clock: ServerClock, client: Any) -> None:
    """All that this boto3 client sends, once an answer has told the time."""

    def hand_over(request: Any, **_: object) -> None:
        request.context[_CLOCK] = clock

    client.meta.events.register("before-sign", hand_over)


def _set_time(request: Any) -> None:
    """botocore has just written the machine's own."""
    clock: ServerClock | None = request.context.get(_CLOCK)
    if clock is not None and clock.heard:
        request.context["timestamp"] = clock.now().strftime(SIGV4_TIMESTAMP)


class _SigV4(SigV4Auth):
    def _modify_request_before_signing(self, request: Any) -> None:
        _set_time(request)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # not in the stubs


class _S3SigV4(S3SigV4Auth):
    def _modify_request_before_signing(self, request: Any) -> None:
        _set_time(request)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # not in the stubs


# botocore's own table of who signs how; what brings no clock is signed as ever.
AUTH_TYPE_MAPS.update({"v4": _SigV4, "s3v4": _S3SigV4})
