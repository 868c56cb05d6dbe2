"""The instances' role keys: handed out by IMDS, expiring, refused by the endpoint afterwards."""

from __future__ import annotations

import datetime as dt
import secrets
import threading
from dataclasses import dataclass

# EC2's last six hours. Shorter here, so that an instance that passes its first hour needs new ones.
LIFE = dt.timedelta(hours=1)
# ... and IMDS shows the next ones this long before the end (EC2: at least five minutes).
NEXT_BEFORE_END = dt.timedelta(minutes=20)

ROLE_PREFIX = "ASIA"  # as all temporary keys of AWS's begin


@dataclass(frozen=True, kw_only=True)
class RoleKey:
    access_key: str
    secret_key: str
    token: str
    issued_at: dt.datetime
    expires_at: dt.datetime


class RoleKeys:
    """Keys by instance. Safe to use from several threads."""

    def __init__(self) -> None:
        self._current: dict[str, RoleKey] = {}
        self._all: dict[str, RoleKey] = {}
        self._issued: dict[str, int] = {}
        self._lock = threading.Lock()

    def of(self, instance_id: str, now: dt.datetime) -> RoleKey:
        """The instance's present key; a new one when the last has not long to live."""
        with self._lock:
            key = self._current.get(instance_id)
            if key is None or key.expires_at - now < NEXT_BEFORE_END:
                key = RoleKey(
                    access_key=ROLE_PREFIX + secrets.token_hex(8).upper(),
                    secret_key=secrets.token_urlsafe(30),
                    token=secrets.token_urlsafe(120),
                    issued_at=now,
                    expires_at=now + LIFE,
                )
                self._current[instance_id] = self._all[key.access_key] = key
                self._issued[instance_id] = self._issued.get(instance_id, 0) + 1
            return key

    def issued(self, instance_id: str) -> int:
        """How many keys the instance was given so far: one more than it saw rotations."""
        with self._lock:
            return self._issued.get(instance_id, 0)

    def find(self, access_key: str) -> RoleKey | None:
        with self._lock:
            return self._all.get(access_key)
