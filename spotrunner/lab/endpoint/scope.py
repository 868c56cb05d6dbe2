"""Whom a request names: the SigV4 credential scope of its header or of a presigned URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """`service` is the signing name (servicequotas, not service-quotas)."""

    access_key: str
    region: str
    service: str
    presigned: bool
    session_token: str | None


def scope_of(environ: Mapping[str, Any]) -> Scope | None:
    """None for a request that is not signed with Signature Version 4."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    if header:
        return _scope(header, environ.get("HTTP_X_AMZ_SECURITY_TOKEN"), presigned=False)
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if "X-Amz-Credential" not in query:
        return None
    token = query.get("X-Amz-Security-Token", [None])[0]
    return _scope("Credential=" + query["X-Amz-Credential"][0], token, presigned=True)


def _scope(text: str, token: str | None, *, presigned: bool) -> Scope | None:
    found = _CREDENTIAL.search(text)
    if found is None:
        return None
    key, _, region, service = found.groups()
    return Scope(
        access_key=key, region=region, service=service, presigned=presigned, session_token=token
    )
