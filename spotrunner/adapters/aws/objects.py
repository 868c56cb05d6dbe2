"""ports.Objects over S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotrunner.adapters.aws.errors import NotModified, by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.transfers import (
    PART_BYTES,
    PART_PAUSES_S,
    Downloads,
    Uploads,
    as_write,
)
from spotrunner.ports import (
    Blob,
    Content,
    Misconfigured,
    NotFound,
    ObjectInfo,
    Unavailable,
    always,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# S3's own limit.
DELETED_AT_ONCE = 1_000


class S3Objects:
    def __init__(
        self,
        client: S3Client,
        bucket: str,
        *,
        part_bytes: int = PART_BYTES,
        part_pauses_s: Sequence[float] = PART_PAUSES_S,
        carrier: S3Client | None = None,
    ) -> None:
        """`part_bytes` is at least 5 MiB on AWS. `carrier`: a client with more patience, for the
        bytes of files."""
        carrier = carrier or client
        self._client = client
        self._bucket = bucket
        self._uploads = Uploads(carrier, bucket, part_bytes=part_bytes, part_pauses_s=part_pauses_s)
        self._downloads = Downloads(carrier, bucket, part_bytes=part_bytes)

    def get(self, key: str) -> Blob:
        with by_meaning():
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            return Blob(body=answer["Body"].read(), etag=answer["ETag"])

    def get_if_changed(self, key: str, etag: str | None) -> Blob | None:
        if etag is None:
            return self.get(key)
        try:
            with by_meaning():
                answer = self._client.get_object(Bucket=self._bucket, Key=key, IfNoneMatch=etag)
                return Blob(body=answer["Body"].read(), etag=answer["ETag"])
        except NotModified:
            return None

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False
    ) -> str:
        assert not (if_match and if_absent), "at most one condition"
        condition = _condition(if_match, if_absent)
        with as_write(key), by_meaning():
            answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, **condition)
            return answer["ETag"]

    def put_encrypted(self, key: str, body: bytes, kms_key: str | None = None) -> None:
        named: Any = {"SSEKMSKeyId": kms_key} if kms_key else {}
        with by_meaning():
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ServerSideEncryption="aws:kms", **named
            )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with by_meaning():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield ObjectInfo(
                        key=found["Key"],
                        bytes=found["Size"],
                        etag=found["ETag"],
                        modified_at=found["LastModified"],
                    )

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            some = keys[start : start + DELETED_AT_ONCE]
            with by_meaning():
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": key} for key in some], "Quiet": True},
                )
            for left in answer.get("Errors", ()):
                raise Unavailable(f"{left.get('Key')} was not deleted: {left.get('Message')}")

    def upload(
        self,
        path: Path,
        key: str,
        *,
        if_absent: bool = False,
        may_go_on: Callable[[], bool] = always,
    ) -> Content:
        return self._uploads.send(path, key, _condition(None, if_absent), may_go_on)

    def download(self, key: str, path: Path) -> Content:
        return self._downloads.fetch(key, path)

    def presigned(self, key: str, lifetime_s: int) -> str:
        with by_meaning():
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=lifetime_s
            )


class S3Buckets:
    """ports.Buckets. `region` is where the first request for a bucket goes; S3 says it if the
    bucket is elsewhere, and boto3 follows."""

    def __init__(self, aws: Aws, region: str) -> None:
        self._aws = aws
        self._region = region

    def objects(self, bucket: str) -> S3Objects:
        carrier = self._aws.carrier(self._region)
        return S3Objects(self._aws.s3(self._region), bucket, carrier=carrier)

    def region(self, bucket: str) -> str:
        try:
            with by_meaning():
                return self._aws.s3(self._region).head_bucket(Bucket=bucket)["BucketRegion"]
        except NotFound:
            # An answer to HEAD has no text that could name what is missing.
            raise Misconfigured(f"there is no bucket {bucket}: check its name") from None


def _condition(if_match: str | None, if_absent: bool) -> dict[str, Any]:
    if if_match is not None:
        return {"IfMatch": if_match}
    return {"IfNoneMatch": "*"} if if_absent else {}
