"""How far the agents have come in lab time, read from the reports in the home bucket."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from spotrunner.agent.words import Config as AgentConfig
from spotrunner.core.model import Phase, Verb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OWNER_KEY = "LABOWNER"  # the lab's own calls, which the gate never holds


def owner_client(url: str, service: str, region: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        region_name=region,
        endpoint_url=url,
        aws_access_key_id=OWNER_KEY,
        aws_secret_access_key="any",
        config=Config(s3={"addressing_style": "path"}, signature_version=_SIGNATURE.get(service)),
    )


_SIGNATURE = {"s3": "s3v4"}


# A timer counts whole minutes, rounded down.
_TIMER_SLACK = dt.timedelta(seconds=90)


# Ready is not among them: it waits for another attempt, which may need time to pass.
_STARTING = frozenset(phase.value for phase in (Phase.BOOT, Phase.FETCH, Phase.RESTORE))
# Saving, committing, or about to power off. Idle is not among them: it waits for EC2.
_ENDING = frozenset(
    phase.value
    for phase in (
        Phase.HANDOVER,
        Phase.DONE,
        Phase.FAILED,
        Phase.FAULT,
        Phase.STOPPED,
        Phase.UNPAID,
        Phase.FENCED,
    )
)
# An agent stops its trainer at most so long before its paid time ends, as long as a save and its
# commit take a third of `unmeasured_s`.
_STOPS_BEFORE = dt.timedelta(
    seconds=AgentConfig.off_margin_s + AgentConfig.safety_s + AgentConfig.unmeasured_s
)


def _stop_at(order: Any, timer: dt.datetime | None) -> dt.datetime:
    paid_until = _time(order["paid_until"])
    return min(paid_until, timer or paid_until) - _STOPS_BEFORE


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


class Mail:
    """`s3` is a client of the lab's own endpoint."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def late(self, attempts: Iterable[str], since: dt.datetime) -> tuple[str, ...]:
        """Those of the attempts whose last report is older than `since`. An agent that has not
        reported yet is not waited for: it boots."""
        return tuple(
            attempt
            for attempt in attempts
            if (at := self._reported_at(attempt)) is not None and at < since
        )

    def behind(self, timers: Mapping[str, dt.datetime | None], now: dt.datetime) -> tuple[str, ...]:
        """Those of the attempts that have not made a step yet, have not read their newest order,
        have not set the timer of their machine by it, or are on their way down. A trainer starts
        and saves in real time: to one that is still importing, hours of the lab's would look like
        a boot that never ends, and who still saves would be ended."""
        return tuple(name for name, timer in timers.items() if not self._follows(name, timer, now))

    def stops(self, timers: Mapping[str, dt.datetime | None]) -> tuple[dt.datetime, ...]:
        """When the agents will begin to save for the last time if nobody pays on."""
        found = []
        for attempt, timer in timers.items():
            order = self._letter(f"mail/orders/{attempt}.json")
            if order is not None:
                found.append(_stop_at(order, timer))
        return tuple(found)

    def _follows(self, attempt: str, timer: dt.datetime | None, now: dt.datetime) -> bool:
        order = self._letter(f"mail/orders/{attempt}.json")
        report = self._letter(f"mail/reports/{attempt}/0.json")
        if order is None or report is None:
            # Without an order the daemon is through with it, and its letters have been moved.
            return order is None
        if report["phase"] == Phase.IDLE.value:
            return True
        is_told = order["verb"] == Verb.STOP.value or now >= _stop_at(order, timer)
        if is_told or report["phase"] in _ENDING:
            return False
        if report["phase"] in _STARTING or (
            report["phase"] == Phase.TRAIN.value and report["first_step_at"] is None
        ):
            return False
        has_read = bool(report["order_n"] >= order["n"])
        return has_read and (timer is None or timer >= _time(order["paid_until"]) - _TIMER_SLACK)

    def _reported_at(self, attempt: str) -> dt.datetime | None:
        report = self._letter(f"mail/reports/{attempt}/0.json")
        return None if report is None else _time(report["at"])

    def _letter(self, key: str) -> Any:
        """None where there is none."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket"):
                return None
            raise
        return json.loads(answer["Body"].read())
