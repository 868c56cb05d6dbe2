"""ports.Objects over S3."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from s3transfer.exceptions import RetriesExceededError

from spotrunner.adapters.aws.errors import NotModified, by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.ports import (
    Blob,
    Misconfigured,
    NotFound,
    ObjectInfo,
    PortError,
    PreconditionFailed,
    Throttled,
    Unavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1024 * 1024
# A file from here on goes up in parts of this size; more of it is in memory only by threads.
PART_BYTES = 16 * MIB
TRANSFER_THREADS = 8

# S3's own limits.
MAX_PARTS = 10_000
DELETED_AT_ONCE = 1_000


class S3Objects:
    def __init__(self, client: S3Client, bucket: str, *, part_bytes: int = PART_BYTES) -> None:
        """`part_bytes` is at least 5 MiB on AWS."""
        self._client = client
        self._bucket = bucket
        self._part_bytes = part_bytes

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
        with _as_write(key), by_meaning():
            answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, **condition)
            return answer["ETag"]

    def put_encrypted(self, key: str, body: bytes, kms_key: str | None = None) -> None:
        named = {"SSEKMSKeyId": kms_key} if kms_key else {}
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

    def upload(self, path: Path, key: str, *, if_absent: bool = False) -> None:
        size = path.stat().st_size
        condition = _condition(None, if_absent)
        if size > self._part_bytes:
            self._upload_parts(path, key, size, condition)
            return
        with path.open("rb") as file, _as_write(key), by_meaning():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=file, **condition)

    def download(self, key: str, path: Path) -> None:
        # s3transfer writes beside `path`, holds every part to one etag, and renames at the end.
        settings = TransferConfig(
            preferred_transfer_client="classic",
            multipart_threshold=self._part_bytes,
            multipart_chunksize=self._part_bytes,
            max_concurrency=TRANSFER_THREADS,
        )
        try:
            with by_meaning(), create_transfer_manager(self._client, settings) as transfers:
                transfers.download(self._bucket, key, str(path)).result()
        except RetriesExceededError as error:
            raise Unavailable(f"the download of {key} broke off: {error}") from error
        except PreconditionFailed as error:
            raise Unavailable(f"{key} changed while it was downloaded") from error

    def presigned(self, key: str, lifetime_s: int) -> str:
        with by_meaning():
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=lifetime_s
            )

    # -- large files: by hand, since s3transfer knows no condition -----------------------------

    def _upload_parts(self, path: Path, key: str, size: int, condition: dict[str, Any]) -> None:
        part_bytes = max(self._part_bytes, -(-size // MAX_PARTS))
        with _as_write(key), by_meaning():
            upload_id = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ChecksumAlgorithm="CRC32"
            )["UploadId"]
        parts = _Parts(self._client, self._bucket, key, upload_id, path, part_bytes)
        try:
            with _as_write(key), by_meaning():
                sent = parts.send(range(-(-size // part_bytes)))
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": sent},
                    **condition,
                )
        except (PortError, OSError):
            parts.abort()
            raise


class S3Buckets:
    """ports.Buckets. `region` is where the first request for a bucket goes; S3 says it if the
    bucket is elsewhere, and boto3 follows."""

    def __init__(self, aws: Aws, region: str) -> None:
        self._aws = aws
        self._region = region

    def objects(self, bucket: str) -> S3Objects:
        return S3Objects(self._aws.s3(self._region), bucket)

    def region(self, bucket: str) -> str:
        try:
            with by_meaning():
                return self._aws.s3(self._region).head_bucket(Bucket=bucket)["BucketRegion"]
        except NotFound:
            # An answer to HEAD has no text that could name what is missing.
            raise Misconfigured(f"there is no bucket {bucket}: check its name") from None


class _Parts:
    """The parts of one multipart upload."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        key: str,
        upload_id: str,
        path: Path,
        part_bytes: int,
    ) -> None:
        self._client = client
        self._target: Any = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
        self._path = path
        self._part_bytes = part_bytes

    def send(self, indices: Sequence[int]) -> list[CompletedPartTypeDef]:
        with concurrent.futures.ThreadPoolExecutor(TRANSFER_THREADS) as threads:
            sending = [threads.submit(self._send_one, index) for index in indices]
            try:
                return [part.result() for part in sending]
            finally:
                for part in sending:
                    part.cancel()

    def abort(self) -> None:
        """Parts that are left behind cost money; a bucket's lifecycle rule ends what this one
        cannot reach."""
        with contextlib.suppress(PortError), by_meaning():
            self._client.abort_multipart_upload(**self._target)

    def _send_one(self, index: int) -> CompletedPartTypeDef:
        with self._path.open("rb") as file:
            file.seek(index * self._part_bytes)
            body = file.read(self._part_bytes)
        answer = self._client.upload_part(
            **self._target, PartNumber=index + 1, Body=body, ChecksumAlgorithm="CRC32"
        )
        part: CompletedPartTypeDef = {"PartNumber": index + 1, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:
            part["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return part


def _condition(if_match: str | None, if_absent: bool) -> dict[str, Any]:
    if if_match is not None:
        return {"IfMatch": if_match}
    return {"IfNoneMatch": "*"} if if_absent else {}


@contextlib.contextmanager
def _as_write(key: str) -> Iterator[None]:
    """What an error means of a write: to compare with an object that is not there fails, and after
    retries below us "slow down" does not say that nothing was stored."""
    try:
        yield
    except NotFound as error:
        raise PreconditionFailed(f"{key} is not there: {error}") from error
    except Throttled as error:
        raise Unavailable(str(error)) from error
