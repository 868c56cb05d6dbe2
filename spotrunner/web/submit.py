"""Take a job in: read what was sent, check it whole, and only then write anything."""

from __future__ import annotations

import hashlib
import json
import secrets
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from spotrunner.core import located
from spotrunner.core.located import Document, Problem
from spotrunner.core.model import Event, Job, JobSpec
from spotrunner.core.money import usd
from spotrunner.core.states import JobState
from spotrunner.ports import Misconfigured
from spotrunner.web import checks, errors
from spotrunner.web.deps import MIB, Deps
from spotrunner.web.moments import minute
from spotrunner.web.schema import JobFile, to_spec
from spotrunner.web.secrets import kept, value_problems

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LETTERS = 4
_ID_TRIES = 20
_BLOCK_BYTES = MIB
NO_VALUES: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Workdir:
    """The archive of the workdir on our disk."""

    path: Path
    sha256: str


def parse(body: bytes | str) -> JobFile:
    """The fields of a job file from JSON. Raises ApiError with all that is wrong."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.one(errors.UNPROCESSABLE, f"the job is no JSON: {error}") from None
    try:
        return JobFile.model_validate(values)
    except ValidationError as error:
        # There is no file here, only its keys.
        there = Document(values={}, lines=dict.fromkeys(_paths(values, ()), 0))
        found = located.located(error.errors(), there, JobFile)
        raise errors.refused(
            [Problem(message=it.message, key=it.key, hint=it.hint) for it in found]
        ) from None


def submit(
    deps: Deps,
    file: JobFile,
    upload: IO[bytes] | None,
    sha256: str | None,
    allow_late: bool = False,
    values: Mapping[str, str] = NO_VALUES,
) -> tuple[Job, tuple[Problem, ...]]:
    """The new job, and what its user is warned of. `sha256` is what the sender says of its upload,
    if it does; with `allow_late` a deadline that cannot be met is no reason to refuse; `values` are
    those of the secrets that the job file takes from the sender's shell. Raises ApiError,
    Unavailable; nothing is stored or uploaded then but, where S3 fails half-way, objects of no
    job."""
    if wrong := value_problems(file.secrets, values):
        raise errors.refused(wrong)
    with tempfile.TemporaryDirectory(prefix="spotrunner-upload-") as folder:
        workdir = _keep(deps, upload, Path(folder) / "workdir.tar.gz", sha256) if upload else None
        now = deps.clock.now()
        spec = to_spec(file, workdir.sha256 if workdir else None, now)
        checked = checks.check(deps, spec, allow_late, file.raises_budget)
        if checked.wrong:
            raise errors.refused(checked.wrong)
        spec = checked.spec
        job = Job(id=_new_id(deps, spec.name), spec=spec, state=JobState.QUEUED, submitted_at=now)
        if workdir is not None:
            deps.objects.upload(workdir.path, f"jobs/{job.id}/workdir/{workdir.sha256}.tar.gz")
    with kept(deps.objects, job.id, values, deps.kms_key):
        deps.objects.put(f"jobs/{job.id}/spec.json", deps.encode(spec))
        _store(deps, job)
    deps.wake()
    return job, (*file.warnings, *checked.warnings)


def _store(deps: Deps, job: Job) -> None:
    told = Event(
        at=job.submitted_at, job_id=job.id, subject=job.id, kind="submitted", why=_why(job.spec)
    )
    try:
        deps.store.add_job(job, [told])
    except Misconfigured as error:
        raise errors.one(errors.CONFLICT, str(error), hint="submit it again") from error


def _why(spec: JobSpec) -> str:
    cap = usd(spec.budget_usd_micros) if spec.budget_usd_micros is not None else "no budget"
    where = f"{', '.join(spec.instance_types)} in {', '.join(spec.regions)}"
    until = f", done by {minute(spec.deadline_at)}" if spec.deadline_at else ""
    return f"the user wants it trained: {where}, {spec.market.value}, {cap}{until}, {spec.policy}"


def _new_id(deps: Deps, name: str) -> str:
    """An id that neither the store nor the bucket knows: a store that was restored from a backup
    must not hand out the id of a job whose checkpoints are there."""
    for _ in range(_ID_TRIES):
        job_id = f"{name}-{''.join(secrets.choice(_LETTERS) for _ in range(_ID_LETTERS))}"
        used = next(iter(deps.objects.list(f"jobs/{job_id}/")), None)
        if deps.store.job(job_id) is None and used is None:
            return job_id
    raise errors.one(errors.CONFLICT, f"no free id was found for {name}: choose another name")


# -- the upload --------------------------------------------------------------------------------


def _keep(deps: Deps, upload: IO[bytes], path: Path, wanted_sha256: str | None) -> Workdir:
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        while block := upload.read(_BLOCK_BYTES):
            size += len(block)
            if size > deps.max_workdir_bytes:
                limit = f"{deps.max_workdir_bytes / MIB:g} MiB"
                raise errors.one(
                    errors.TOO_LARGE, f"the packed workdir is larger than {limit}", "workdir"
                )
            digest.update(block)
            file.write(block)
    if wanted_sha256 is not None and digest.hexdigest() != wanted_sha256:
        raise errors.one(
            errors.UNPROCESSABLE, "the archive is damaged: its sha256 is another", "workdir"
        )
    _check_archive(path)
    return Workdir(path=path, sha256=digest.hexdigest())


def _check_archive(path: Path) -> None:
    """Its beginning; the rest is the agent's to unpack."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            empty = archive.next() is None
    except (tarfile.TarError, OSError, EOFError):
        raise errors.one(errors.UNPROCESSABLE, "it is no .tar.gz archive", "workdir") from None
    if empty:
        raise errors.one(errors.UNPROCESSABLE, "the archive is empty", "workdir")


def _paths(value: Any, path: located.Path) -> Iterator[located.Path]:
    yield path
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))
