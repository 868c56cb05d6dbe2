"""How far the agents have come in lab time, read from the reports in the home bucket."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

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

    def _reported_at(self, attempt: str) -> dt.datetime | None:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=f"mail/reports/{attempt}/0.json")
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket"):
                return None
            raise
        text = json.loads(answer["Body"].read())["at"]
        return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
