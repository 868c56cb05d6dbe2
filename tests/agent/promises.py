"""What has to hold whatever breaks: no committed checkpoint is lost, no older one becomes HEAD, and
nothing of an instance is left. One check, for whole agents and for the whole lab."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spotrunner.adapters import codec
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.agent.carry import Carried
from spotrunner.agent.checkpoints import Checkpoints
from spotrunner.agent.folders import Folders, Keys, complete_steps
from spotrunner.core.model import CheckpointRef, Head
from tests.lab.traces import processes_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def remember_heads(client: S3Client, bucket: str) -> None:
    """From now on the bucket keeps every HEAD that there was."""
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def past_heads(client: S3Client, bucket: str, job_id: str) -> list[Head]:
    """Every HEAD of the job that there was, as they followed each other."""
    key = f"jobs/{job_id}/checkpoints/HEAD.json"
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    ids = [version["VersionId"] for page in pages for version in page.get("Versions", [])]
    bodies = [client.get_object(Bucket=bucket, Key=key, VersionId=id_)["Body"] for id_ in ids]
    return sorted((codec.from_json(Head, body.read()) for body in bodies), key=lambda h: h.seq)


def nothing_is_lost(client: S3Client, bucket: str, job_id: str, folder: Path) -> Head:
    """HEAD as it is now; what it names was restored into `folder`."""
    past = past_heads(client, bucket, job_id)
    assert [head.seq for head in past] == [*range(1, len(past) + 1)], "swaps followed each other"
    for before, after in itertools.pairwise(past):
        _follows(before, after)
    last = past[-1]
    for ref in (last.manifest, last.previous):
        if ref is not None:
            _can_be_restored(S3Objects(client, bucket), ref, job_id, folder)
    return last


def _follows(before: Head, after: Head) -> None:
    assert after.generation >= before.generation, f"{before} lost to {after}"
    if after.damaged is not None:
        assert after.damaged == before.manifest, "only what HEAD named was given up"
        assert after.manifest == before.previous
        return
    assert after.step >= before.step, f"{before} lost to {after}"
    assert before.done in (None, after.done)
    if after.manifest != before.manifest:
        assert after.previous == before.manifest, "its predecessor stays restorable"


def _can_be_restored(objects: S3Objects, ref: CheckpointRef, job_id: str, folder: Path) -> None:
    """Byte by byte as it was saved: every digest is verified."""
    folders = Folders(root=folder / str(ref.step))
    folders.make()
    Checkpoints(
        objects=objects,
        heads=ObjectHeads(objects),
        folders=folders,
        keys=Keys(job_id=job_id, attempt=f"{job_id}.99", generation=99),
        nonce=lambda: "check",
        carried=Carried(),
    ).restore(ref)
    assert list(complete_steps(folders.checkpoints)) == [ref.step]


def left_of(folder: Path) -> Sequence[str]:
    """Processes and mounts of an instance, or of a lab, whose folder this is."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [*processes_of(folder), *(line for line in mounts if str(folder) in line)]
