"""Refusals in the shape that each service's protocol has."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from spotrunner.lab.endpoint.wire import write_error
from spotrunner.sim.values import ApiError


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    status: int
    body: bytes
    content_type: str = "text/xml;charset=UTF-8"
    etag: str | None = None


def json_answer(status: int, body: Mapping[str, Any]) -> HttpAnswer:
    return HttpAnswer(
        status=status, body=json.dumps(body).encode(), content_type="application/x-amz-json-1.1"
    )


def refusal(service: str, error: ApiError) -> HttpAnswer:
    """`service` is a SigV4 signing name."""
    request_id = secrets.token_hex(8).upper()
    protocol = _protocol(service)
    if protocol == "ec2":
        return HttpAnswer(status=error.http_status, body=write_error(error, request_id))
    if protocol == "json":
        return json_answer(error.http_status, {"__type": error.code, "message": error.message})
    inner = f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
    if protocol == "query":
        text = f"<ErrorResponse><Error>{inner}</Error><RequestId>{request_id}</RequestId>"
        text += "</ErrorResponse>"
    else:
        text = f"<Error>{inner}<RequestId>{request_id}</RequestId></Error>"
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'
    return HttpAnswer(
        status=error.http_status, body=document.encode(), content_type="application/xml"
    )


def expired_key(service: str) -> ApiError:
    return {
        "s3": ApiError("ExpiredToken", "The provided token has expired.", 400),
        "ec2": ApiError("RequestExpired", "Request has expired.", 400),
        "query": ApiError("ExpiredToken", _TOKEN + "expired", 403),
        "json": ApiError("ExpiredTokenException", _TOKEN + "expired", 400),
    }[_protocol(service)]


def unknown_key(service: str) -> ApiError:
    id_ = "The AWS Access Key Id you provided does not exist in our records."
    not_valid = "AWS was not able to validate the provided access credentials"
    return {
        "s3": ApiError("InvalidAccessKeyId", id_, 403),
        "ec2": ApiError("AuthFailure", not_valid, 401),
        "query": ApiError("InvalidClientTokenId", _TOKEN + "invalid.", 403),
        "json": ApiError("UnrecognizedClientException", _TOKEN + "invalid.", 400),
    }[_protocol(service)]


def unavailable(service: str) -> ApiError:
    code = {"ec2": "Unavailable", "json": "ServiceUnavailableException"}.get(
        _protocol(service), "ServiceUnavailable"
    )
    return ApiError(code, "The server is overloaded and can't handle the request.", 503)


def unsigned() -> ApiError:
    return ApiError("AccessDenied", "Access Denied", 403)


def old_signature() -> ApiError:
    """S3 takes Signature Version 2, which boto3 still presigns with by default, for no bucket that
    is younger than June 2020."""
    return ApiError(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported."
        " Please use AWS4-HMAC-SHA256.",
    )


_TOKEN = "The security token included in the request is "


def _protocol(service: str) -> str:
    if service in ("s3", "ec2"):
        return service
    return "query" if service in ("sts", "iam", "sns", "autoscaling") else "json"
