"""A job's logs, page by page, from the chunks that its agents write (jobs/<job>/logs/…).

A cursor says for each attempt what comes next: `1:end,2:7+0` means that attempt 1 has been read to
its end and that attempt 2 goes on with its chunk 7 from the first byte. So nothing is lost while
two attempts write at once, and no character is cut in two between pages.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spotrunner.core.model import Attempt
from spotrunner.ports import NotFound, Objects

# Of plain text, in one answer.
PAGE_BYTES = 1 << 20
# Larger than what any agent packs into a chunk.
CHUNK_BYTES = 4 << 20
RANK = 0

_PLACE = re.compile(r"(\d{1,9}):(?:(end)|(\d{1,9})\+(\d{1,9}))")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The next byte to read: of chunk `n` (from 1) in its plain text. `ended`: there is none."""

    n: int = 1
    offset: int = 0
    ended: bool = False

    def __str__(self) -> str:
        return "end" if self.ended else f"{self.n}+{self.offset}"


Cursor = Mapping[int, Place]  # by generation


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Text of one attempt, in its order."""

    attempt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """`more`: there was more than fits."""

    chunks: tuple[Chunk, ...]
    cursor: Cursor
    more: bool


def parse(cursor: str) -> Cursor:
    """Raises ValueError."""
    places = {}
    for part in cursor.split(",") if cursor else ():
        found = _PLACE.fullmatch(part)
        if found is None:
            raise ValueError(f"expected the `after` of an earlier answer, found {cursor!r}")
        generation, end, n, offset = found.groups()
        places[int(generation)] = Place(ended=True) if end else Place(n=int(n), offset=int(offset))
    return places


def dump(cursor: Cursor) -> str:
    return ",".join(f"{generation}:{place}" for generation, place in sorted(cursor.items()))


def read(objects: Objects, attempts: Sequence[Attempt], cursor: Cursor) -> Page:
    """What `attempts` (by generation) have logged after `cursor`. Raises Unavailable."""
    places, chunks, room = dict(cursor), [], PAGE_BYTES
    for attempt in attempts:
        reader = _Reader(objects, attempt, places.get(attempt.generation, Place()))
        text = reader.read(room)
        places[attempt.generation] = reader.place
        if text:
            chunks.append(Chunk(attempt=attempt.id, text=text))
        room -= reader.bytes
        if room <= 0:
            break
    return Page(chunks=tuple(chunks), cursor=places, more=room <= 0)


class _Reader:
    """Goes through one attempt's chunks. `place` is the first byte that is not in a text yet."""

    def __init__(self, objects: Objects, attempt: Attempt, place: Place) -> None:
        self._objects = objects
        self._attempt = attempt
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._next = place
        self.place = place
        self.bytes = 0

    def read(self, room_bytes: int) -> str:
        texts = []
        while not self.place.ended and self.bytes < room_bytes:
            chunk = self._chunk()
            if chunk is not None:
                texts.append(self._take(chunk, room_bytes - self.bytes))
            elif self._attempt.state.live:
                break
            else:
                texts.append(self._decoder.decode(b"", final=True))
                self.place = Place(ended=True)
        return "".join(texts)

    def _take(self, chunk: bytes, room_bytes: int) -> str:
        start = self._next.offset
        part = chunk[start : start + room_bytes]
        text = self._decoder.decode(part)
        end = start + len(part)
        self.bytes += len(part)
        self._next = Place(n=self._next.n, offset=end)
        cut = len(self._decoder.getstate()[0])  # of a character whose rest is still to come
        if cut <= len(part):
            self.place = Place(n=self._next.n, offset=end - cut)
        if end >= len(chunk):
            self._next = Place(n=self._next.n + 1)
            if not cut:
                self.place = self._next
        return text

    def _chunk(self) -> bytes | None:
        key = f"jobs/{self._attempt.job_id}/logs/{self._attempt.id}/{RANK}/{self._next.n:06d}.gz"
        try:
            body = self._objects.get(key).body
        except NotFound:
            return None
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as zipped:
                return zipped.read(CHUNK_BYTES)
        except (OSError, EOFError, zlib.error):
            return b"[a part of the log is damaged]\n"
