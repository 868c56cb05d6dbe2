"""Files to and from S3: read or written once, in order, while several parts are on their way.

The order is for the digest: sha256 cannot be put together from parts, so whoever reads a file for
its parts hashes it on the way, and its bytes are touched only once. The way up is by hand, since
s3transfer knows no condition; the way down is s3transfer's.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import io
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from s3transfer.exceptions import RetriesExceededError

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.ports import (
    Content,
    GaveWay,
    NotFound,
    PortError,
    PreconditionFailed,
    Throttled,
    Unavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1024 * 1024
# A file from here on goes up in parts of this size.
PART_BYTES = 16 * MIB
# For all files together, so this many parts and a few more are in memory, however large they are.
TRANSFER_THREADS = 8
PARTS_READ_AHEAD = 2
# A part that S3 refuses ("slow down") or loses is sent again after these pauses, each time by a
# client that retries too: one bad part must not cost the gigabytes before it.
PART_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
# S3's own limit.
MAX_PARTS = 10_000
_DOWN_BLOCK_BYTES = MIB


class Uploads:
    """Uploads to one bucket, from any number of threads, under one bound of threads and memory."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        *,
        part_bytes: int = PART_BYTES,
        part_pauses_s: Sequence[float] = PART_PAUSES_S,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._part_bytes = part_bytes
        self._part_pauses_s = part_pauses_s
        self._slots = threading.BoundedSemaphore(TRANSFER_THREADS + PARTS_READ_AHEAD)
        self._senders = concurrent.futures.ThreadPoolExecutor(TRANSFER_THREADS, "upload")

    def send(
        self, path: Path, key: str, condition: dict[str, Any], may_go_on: Callable[[], bool]
    ) -> Content:
        """The file as it is now; what is written to it meanwhile waits for another time."""
        with path.open("rb") as file:
            size = path.stat().st_size
            source = _Source(file, size, may_go_on)
            if size > self._part_bytes:
                self._send_parts(source, size, key, condition)
            else:
                self._send_whole(source, key, condition)
        return source.content()

    def _send_whole(self, source: _Source, key: str, condition: dict[str, Any]) -> None:
        with self._slots, as_write(key), by_meaning():
            body = source.read(self._part_bytes)
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=io.BytesIO(body), **condition
            )

    def _send_parts(self, source: _Source, size: int, key: str, condition: dict[str, Any]) -> None:
        target: Any = {"Bucket": self._bucket, "Key": key}
        with as_write(key), by_meaning():
            started = self._client.create_multipart_upload(**target, ChecksumAlgorithm="CRC32")
        target["UploadId"] = started["UploadId"]
        part_bytes = max(self._part_bytes, -(-size // MAX_PARTS))
        try:
            parts = self._parts(source, part_bytes, target)
            with as_write(key), by_meaning():
                self._client.complete_multipart_upload(
                    **target, MultipartUpload={"Parts": parts}, **condition
                )
        except (PortError, OSError):
            self._abort(target)
            raise

    def _parts(
        self, source: _Source, part_bytes: int, target: dict[str, Any]
    ) -> list[CompletedPartTypeDef]:
        sending: list[concurrent.futures.Future[CompletedPartTypeDef]] = []
        broken = threading.Event()
        try:
            while source.has_more and not broken.is_set():
                self._slots.acquire()
                try:
                    body = source.read(part_bytes)
                    part = self._senders.submit(
                        self._send_part, target, len(sending) + 1, body, broken
                    )
                except BaseException:
                    self._slots.release()
                    raise
                part.add_done_callback(lambda _: self._slots.release())
                sending.append(part)
            return [part.result() for part in sending]
        finally:
            broken.set()
            for part in sending:
                part.cancel()
            # A part that arrived after the abort would stay, and cost.
            concurrent.futures.wait(sending)

    def _send_part(
        self, target: dict[str, Any], number: int, body: bytes, broken: threading.Event
    ) -> CompletedPartTypeDef:
        try:
            for pause_s in self._part_pauses_s:
                try:
                    return self._send_once(target, number, body)
                except Unavailable:
                    if broken.wait(pause_s):
                        raise
            return self._send_once(target, number, body)
        except PortError:
            broken.set()
            raise

    def _send_once(self, target: dict[str, Any], number: int, body: bytes) -> CompletedPartTypeDef:
        # As a file: bytes would be copied once more, and a time-out would be one for all of them.
        with as_write(target["Key"]), by_meaning():
            answer = self._client.upload_part(
                **target, PartNumber=number, Body=io.BytesIO(body), ChecksumAlgorithm="CRC32"
            )
        part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:
            part["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return part

    def _abort(self, target: dict[str, Any]) -> None:
        """Parts that are left behind cost money; a bucket's lifecycle rule ends what this one
        cannot reach."""
        with contextlib.suppress(PortError), by_meaning():
            self._client.abort_multipart_upload(**target)


class Downloads:
    """Downloads from one bucket, from any number of threads, under one bound as well."""

    def __init__(self, client: S3Client, bucket: str, *, part_bytes: int = PART_BYTES) -> None:
        self._bucket = bucket
        settings = TransferConfig(
            preferred_transfer_client="classic",
            multipart_threshold=part_bytes,
            multipart_chunksize=part_bytes,
            max_concurrency=TRANSFER_THREADS,
            io_chunksize=_DOWN_BLOCK_BYTES,
            max_io_queue=part_bytes // _DOWN_BLOCK_BYTES + 16,
        )
        self._transfers = create_transfer_manager(client, settings)

    def fetch(self, key: str, path: Path) -> Content:
        # s3transfer holds every part to one etag, and hands the bytes over in their order to
        # whatever cannot seek.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with partial.open("xb") as file:
                sink = _Sink(file)
                self._fetch(key, sink)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return sink.content()

    def _fetch(self, key: str, sink: Any) -> None:
        """`sink` needs no more of a file than `write`."""
        try:
            with by_meaning():
                self._transfers.download(self._bucket, key, sink).result()
        except RetriesExceededError as error:
            raise Unavailable(f"the download of {key} broke off: {error}") from error
        except PreconditionFailed as error:
            raise Unavailable(f"{key} changed while it was downloaded") from error


@contextlib.contextmanager
def as_write(key: str) -> Iterator[None]:
    """What an error means of a write: to compare with an object that is not there fails, and after
    retries below us "slow down" does not say that nothing was stored."""
    try:
        yield
    except NotFound as error:
        raise PreconditionFailed(f"{key} is not there: {error}") from error
    except Throttled as error:
        raise Unavailable(str(error)) from error


class _Source:
    """The first `size` bytes of a file, hashed as they are read."""

    def __init__(self, file: IO[bytes], size: int, may_go_on: Callable[[], bool]) -> None:
        self._file = file
        self._left = size
        self._may_go_on = may_go_on
        self._digest = hashlib.sha256()
        self._bytes = 0

    @property
    def has_more(self) -> bool:
        return self._left > 0

    def read(self, most: int) -> bytes:
        if not self._may_go_on():
            raise GaveWay("the upload gave way to what is urgent")
        body = self._file.read(min(most, self._left))
        self._digest.update(body)
        self._bytes += len(body)
        # A file that has become shorter ends where it ends.
        self._left = self._left - len(body) if body else 0
        return body

    def content(self) -> Content:
        return Content(bytes=self._bytes, sha256=self._digest.hexdigest())


class _Sink:
    """Hashes what is written to it, in order; it cannot seek."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def content(self) -> Content:
        return Content(bytes=self._bytes, sha256=self._digest.hexdigest())
