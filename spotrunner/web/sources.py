"""Where a job's data is, and how much: what moving it to another region costs depends on both."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import islice

from spotrunner.core.model import DataMode, DataSource, JobSpec
from spotrunner.ports import Buckets, Misconfigured, NotAuthorized, Unavailable
from spotrunner.web.schema import bucket_and_prefix

# Ten pages of a listing, for all sources of a job together: whoever submits waits for them.
OBJECTS_COUNTED = 10_000
_GB = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`data` with what could be found out; `wrong` refuses the job, `warning` does not."""

    data: DataSource
    wrong: str = ""
    warning: str = ""


def measured(buckets: Buckets, data: DataSource, spec: JobSpec) -> Measured:
    """Of one of the job's sources. Raises Unavailable."""
    bucket, prefix = bucket_and_prefix(data.source)
    most = max(1, OBJECTS_COUNTED // len(spec.data))
    try:
        listed = buckets.objects(bucket).list(prefix)
        sizes = [info.bytes for info in islice(listed, most)]
        is_whole = len(sizes) < most or next(listed, None) is None
    except (Misconfigured, NotAuthorized) as error:
        return Measured(data=data, wrong=f"{data.source} cannot be read: {error}")
    if not sizes:
        return Measured(data=data, wrong=f"there is nothing in {data.source}")
    found = dataclasses.replace(data, bytes=sum(sizes))
    try:
        found = dataclasses.replace(found, region=buckets.region(bucket))
    except (Misconfigured, NotAuthorized, Unavailable) as error:
        message = f"where {bucket} is could not be asked, so it counts as near: {error}"
        return Measured(data=found, warning=message)
    if all(region == found.region for region in spec.regions):
        return Measured(data=found)
    if data.mode is DataMode.MOUNT:
        return Measured(data=found, warning=_open(data, sum(sizes)))
    return Measured(data=found, warning="" if is_whole else _cut(data, len(sizes), sum(sizes)))


def _open(data: DataSource, size_bytes: int) -> str:
    return (
        f"how much of {data.source} a mount reads is not known ahead, and what its cache has"
        f" dropped is read again: in another region than the data's {size_bytes / _GB:.1f} GB are"
        " counted a launch, all that was found, once; mode: copy costs no more than that"
    )


def _cut(data: DataSource, objects: int, size_bytes: int) -> str:
    return (
        f"only the first {objects} objects of {data.source} were counted"
        f" ({size_bytes / _GB:.1f} GB): to bring it to another region costs more than expected here"
    )
