"""How far the agents have come in lab time, read from the reports in the home bucket."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from spotrunner.core.model import Phase

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

    def behind(self, timers: Mapping[str, dt.datetime | None]) -> tuple[str, ...]:
        """Those of the attempts that have not made a step yet, have not read their newest order,
        or have not set the timer of their machine by it. A trainer starts in real time: to one
        that is still importing, hours of the lab's would look like a boot that never ends."""
        return tuple(name for name, timer in timers.items() if not self._follows(name, timer))

    def _follows(self, attempt: str, timer: dt.datetime | None) -> bool:
        order = self._letter(f"mail/orders/{attempt}.json")
        report = self._letter(f"mail/reports/{attempt}/0.json")
        if order is None or report is None:
            # Without an order the daemon is through with it, and its letters have been moved.
            return order is None
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
