"""The instance metadata service, version 2: who we are, and whether EC2 takes us.

What it does not say for sure is unknown, never "no": only a 404 says that there is no notice.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
from dataclasses import dataclass

import requests

# Half of what EC2 allows: old tokens are renewed on a 401 anyway.
TOKEN_TTL_S = 10_800
# EC2 is as old as that, and datetime ends soon after.
_FIRST_YEAR, _LAST_YEAR = 2006, 9000
_TOKEN_HEADER = "X-aws-ec2-metadata-token"


class ImdsUnknown(Exception):
    """No usable answer: a time-out, throttling, a refusal, or something that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """`attempt` is the tag that the launch put on; None where the instance has none."""

    instance_id: str
    attempt: str | None
    launched_at: dt.datetime | None


class Imds:
    """Safe to use from several threads. Everything raises ImdsUnknown."""

    def __init__(self, endpoint: str, *, timeout_s: float = 1.0) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._timeout_s = timeout_s
        self._token: str | None = None
        self._local = threading.local()

    def notice(self) -> dt.datetime | None:
        """When EC2 takes the instance, if it has said so."""
        text = self.get("meta-data/spot/instance-action")
        return None if text is None else _parse_time(_parse_object(text).get("time"))

    def identity(self) -> Identity:
        instance_id = self.get("meta-data/instance-id")
        if not instance_id:
            raise ImdsUnknown("the metadata service gives no instance id")
        return Identity(
            instance_id=instance_id,
            attempt=self.attempt(),
            launched_at=self._launched_at(),
        )

    def attempt(self) -> str | None:
        """The attempt that this instance was launched for, by its tag."""
        text = self.get("meta-data/tags/instance/spotrunner:attempt")
        return text.strip() if text is not None else None

    def _launched_at(self) -> dt.datetime | None:
        text = self.get("dynamic/instance-identity/document")
        return None if text is None else _parse_time(_parse_object(text).get("pendingTime"))

    def get(self, path: str) -> str | None:
        """The item below /latest/; None where there is none (404)."""
        answer = self._get(path)
        if answer.status_code == 401:
            # The token ran out, or was another instance's (an image made of a running one).
            self._token = None
            answer = self._get(path)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise ImdsUnknown(f"{path}: HTTP {answer.status_code}")
        return answer.text

    def _get(self, path: str) -> requests.Response:
        if self._token is None:
            self._token = self._new_token()
        # Headers are made anew for each request: a token that was added twice would be refused.
        return self._call("GET", path, {_TOKEN_HEADER: self._token})

    def _new_token(self) -> str:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
        answer = self._call("PUT", "api/token", ttl)
        if answer.status_code != 200 or not answer.text.strip():
            raise ImdsUnknown(f"no token: HTTP {answer.status_code}")
        if not answer.text.isprintable():
            raise ImdsUnknown("no token: not a text")
        return answer.text.strip()

    def _call(self, method: str, path: str, headers: dict[str, str]) -> requests.Response:
        try:
            return self._session().request(
                method,
                f"{self._endpoint}/latest/{path}",
                headers=headers,
                timeout=self._timeout_s,
                allow_redirects=False,
            )
        # ValueError: requests reads also what it was told not to follow, and believes that it is
        # an address.
        except (requests.RequestException, ValueError) as error:
            raise ImdsUnknown(f"{path}: {type(error).__name__}") from error

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False  # no proxy may stand between us and our own metadata
        return session


def _parse_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImdsUnknown("not JSON") from error
    if not isinstance(value, dict):
        raise ImdsUnknown("not a JSON object")
    return value


def _parse_time(text: object) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError as error:
        raise ImdsUnknown(f"not a time: {str(text)[:40]!r}") from error
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        # Nor is it one that could be reckoned with.
        raise ImdsUnknown(f"not a time of ours: {str(text)[:40]!r}")
    return time if time.tzinfo is not None else time.replace(tzinfo=dt.timezone.utc)
