"""ports.Heads over ports.Objects: HEAD.json by compare-and-swap, manifests written once."""

from __future__ import annotations

import hashlib

from spotrunner.adapters import codec
from spotrunner.core.model import Head, Manifest
from spotrunner.ports import NotFound, Objects, PreconditionFailed, StoredHead, Unavailable


class ObjectHeads:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, job_id: str) -> StoredHead:
        """As in the port. A HEAD that cannot be read as one is Unavailable, never absent: taking
        it for absent would start the job from nothing."""
        key = _head_key(job_id)
        try:
            blob = self._objects.get(key)
        except NotFound:
            return StoredHead(head=None, etag=None)
        try:
            return StoredHead(head=codec.from_json(Head, blob.body), etag=blob.etag)
        except codec.Malformed as error:
            raise Unavailable(f"{key} cannot be read: {error}") from error

    def swap(self, job_id: str, head: Head, etag: str | None) -> None:
        self._objects.put(
            _head_key(job_id), codec.to_json(head), if_match=etag, if_absent=etag is None
        )

    def write_manifest(self, folder: str, manifest: Manifest) -> str:
        """As in the port; the same manifest again is no error, since a lost answer looks so.
        Raises PreconditionFailed when another manifest lies there, Unavailable."""
        key, body = _manifest_key(folder), codec.to_json(manifest)
        try:
            self._objects.put(key, body, if_absent=True)
        except PreconditionFailed as refused:
            try:
                lies_there = self._objects.get(key).body
            except NotFound:
                # A conflict of two writes, of which neither need have come to anything.
                raise Unavailable(f"{key} was refused, and nothing lies there") from refused
            if lies_there != body:
                raise
        return _sha256(body)

    def read_manifest(self, folder: str) -> tuple[Manifest, str]:
        """As in the port. What lies there and is no manifest is NotFound as well: both mean that
        this checkpoint cannot be used."""
        key = _manifest_key(folder)
        body = self._objects.get(key).body
        try:
            return codec.from_json(Manifest, body), _sha256(body)
        except codec.Malformed as error:
            raise NotFound(f"{key} is no manifest: {error}") from error


def _head_key(job_id: str) -> str:
    return f"jobs/{job_id}/checkpoints/HEAD.json"


def _manifest_key(folder: str) -> str:
    return f"{folder.rstrip('/')}/MANIFEST.json"


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
