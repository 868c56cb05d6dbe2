"""ports.Advisor over the file that AWS's Spot Instance Advisor page is made from.

The file is public and needs no key; AWS documents it nowhere, so everything in it is checked. Its
form: `{"spot_advisor": {REGION: {"Linux": {TYPE: {"s": SAVED_PERCENT, "r": BAND}}}}, ...}`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from spotrunner.ports import Advice, AdvisorPage, Unavailable

URL = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"

# -- limits
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
WHOLE_TIMEOUT_S = 30.0  # of one answer, however steadily it drips
ATTEMPTS = 2
MOST_BYTES = 32 * 1024 * 1024  # ten times the file of 2026
_PIECE_BYTES = 64 * 1024
_BANDS = range(5)
# Below 0: spot costs more than on-demand, which the file of June 2025 says of some types.
_LEAST_SAVED_PERCENT = -1_000


class SpotAdvisor:
    """Safe to use from several threads."""

    def __init__(
        self,
        url: str = URL,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        whole_timeout_s: float = WHOLE_TIMEOUT_S,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._url = url
        self._timeout_s = (min(CONNECT_TIMEOUT_S, read_timeout_s), read_timeout_s)
        self._whole_timeout_s = whole_timeout_s
        self._most_bytes = most_bytes

    def read(self, etag: str | None) -> AdvisorPage | None:
        headers = {} if etag is None else {"If-None-Match": etag}
        try:
            with requests.Session() as session:
                session.mount(self._url, HTTPAdapter(max_retries=_RETRIES))
                with session.get(
                    self._url,
                    headers=headers,
                    timeout=self._timeout_s,
                    stream=True,
                    allow_redirects=False,
                ) as answer:
                    return self._page(answer, etag)
        except requests.RequestException as error:
            raise Unavailable(f"the Spot Advisor's file at {self._url}: {error}") from error

    def _page(self, answer: requests.Response, etag: str | None) -> AdvisorPage | None:
        if answer.status_code == requests.codes.not_modified and etag is not None:
            return None
        if answer.status_code != requests.codes.ok:
            raise self._unusable(f"the answer was {answer.status_code} {answer.reason}")
        body = self._body(answer)
        # Without a name of the server's, the content names itself.
        found = answer.headers.get("ETag") or f'"{hashlib.sha256(body).hexdigest()}"'
        if found == etag:
            return None
        try:
            return AdvisorPage(etag=found, advice=dict(parse_advice(body)))
        except ValueError as error:
            raise self._unusable(str(error)) from error

    def _body(self, answer: requests.Response) -> bytes:
        give_up_at = time.monotonic() + self._whole_timeout_s
        body = bytearray()
        for piece in answer.iter_content(_PIECE_BYTES):
            body += piece
            if len(body) > self._most_bytes:
                raise self._unusable(f"it is larger than {self._most_bytes} bytes")
            if time.monotonic() > give_up_at:
                raise self._unusable(f"it did not come within {self._whole_timeout_s:g} s")
        return bytes(body)

    def _unusable(self, why: str) -> Unavailable:
        return Unavailable(f"the Spot Advisor's file at {self._url} cannot be used: {why}")


# One repetition, at once; nobody but us says how long we wait.
_RETRIES = Retry(
    total=ATTEMPTS - 1,
    status_forcelist=(500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,
)


# -- the file ----------------------------------------------------------------------------------


def parse_advice(body: bytes) -> Iterator[tuple[tuple[str, str], Advice]]:
    """By (region, instance type), Linux only. Raises ValueError with what is wrong where."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error})") from error
    regions = _table(_table(whole, "the file").get("spot_advisor"), "spot_advisor")
    if not regions:
        raise ValueError("spot_advisor names no region")
    for region, systems in regions.items():
        rows = _table(systems, region).get("Linux", {})
        for instance_type, row in _table(rows, f"{region}, Linux").items():
            yield (region, instance_type), _advice(row, f"{instance_type} in {region}")


def _advice(row: Any, where: str) -> Advice:
    table = _table(row, where)
    saved: Any = table.get("s")
    band: Any = table.get("r")
    # bool is an int to Python, and NaN a number to its JSON.
    if type(saved) not in (int, float) or not _LEAST_SAVED_PERCENT <= saved <= 100:
        raise ValueError(f"{where}: s is {saved!r}, no percentage")
    if type(band) is not int or band not in _BANDS:
        raise ValueError(f"{where}: r is {band!r}, none of 0 to {_BANDS[-1]}")
    return Advice(saved_fraction=saved / 100, band=band)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is missing or no table")
    return value
