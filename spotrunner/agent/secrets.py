"""The secrets of a job on its instance: read with the instance's role, handed to the trainer.

Their values are in memory only: in ours, in docker's, and in a folder that is no disk. From the
moment that they are known no log of ours and no log that is shipped shows them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from spotrunner.agent.mask import SHORTEST, Mask
from spotrunner.agent.who import hand_over
from spotrunner.core.secret_place import Keeper, SecretPlace, object_key, place_of
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.ports import Misconfigured, NotAuthorized, NotFound, Objects, Secrets


class SecretsMissing(Exception):
    """Some cannot be had as the job names them, on this machine or another: a sentence each."""


def has_files(refs: Iterable[SecretRef]) -> bool:
    return any(it.form is SecretForm.FILE for it in refs)


class JobSecrets:
    """`folder` is where those lie that the trainer gets as files; `redact` is told what no log of
    this process may show."""

    def __init__(
        self,
        *,
        secrets: Secrets,
        objects: Objects,
        job_id: str,
        folder: Path,
        mask: Mask,
        redact: Callable[[Iterable[str]], None],
    ) -> None:
        self._secrets = secrets
        self._objects = objects
        self._job_id = job_id
        self._folder = folder
        # Ours alone: an agent that is started again beside its trainer asks nobody for them, who
        # might refuse them by now.
        self._copy = folder.with_suffix(".json")
        self._mask = mask
        self._redact = redact
        self._environment: Mapping[str, str] = {}
        self._files: Mapping[str, str] = {}

    @property
    def are_known(self) -> bool:
        """Whether it is known what no log may show; also where that is nothing."""
        return not self._mask.is_blind

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of the trainer, after the fetch."""
        return self._environment

    def fetch(self, refs: Iterable[SecretRef]) -> None:
        """Raises SecretsMissing with all that is wrong; Unavailable and OSError: another try may
        bring them."""
        wanted = tuple(refs)
        values = self._copied() or {}
        if values.keys() != {it.name for it in wanted}:
            values = self._read(wanted)
            self._keep(values)
        self._learn(values)
        by_form = {
            form: {it.name: values[it.name] for it in wanted if it.form is form}
            for form in SecretForm
        }
        self._environment, self._files = by_form[SecretForm.ENV], by_form[SecretForm.FILE]

    def recall(self) -> None:
        """Those that an earlier agent has fetched for a trainer that is here: what it prints may
        have to be shipped before the fetch is done."""
        values = self._copied()
        if values is not None:
            self._learn(values)

    def lay(self, uid: int, gid: int) -> None:
        """Put the files where the trainer, and nobody but root beside it, can read them. Raises
        OSError."""
        self._remove_files()
        if not self._files:
            return
        self._folder.mkdir(parents=True, mode=0o700)
        for name, value in self._files.items():
            _write(self._folder / name, value, 0o400)
        self._folder.chmod(0o500)
        hand_over([self._folder], uid, gid)

    def remove(self) -> None:
        """The trainer is gone, and none will follow here. Never raises."""
        self._remove_files()
        self._copy.unlink(missing_ok=True)

    # -- parts ---------------------------------------------------------------------------------

    def _learn(self, values: Mapping[str, str]) -> None:
        self._mask.learn(values.values())
        self._redact([value for value in values.values() if len(value) >= SHORTEST])

    def _read(self, refs: Iterable[SecretRef]) -> dict[str, str]:
        values, wrong = {}, []
        for ref in refs:
            try:
                values[ref.name] = self._value(ref)
            except (NotFound, NotAuthorized, Misconfigured) as error:
                wrong.append(f"the secret {ref.name}: {error}")
        if wrong:
            raise SecretsMissing("; ".join(wrong))
        return values

    def _value(self, ref: SecretRef) -> str:
        place = place_of(ref.source)
        value = self._object(place) if place.keeper is Keeper.OBJECT else self._secrets.read(place)
        if "\0" in value and ref.form is SecretForm.ENV:
            raise Misconfigured("it has a NUL character, which no environment can carry: as: file")
        return value

    def _object(self, place: SecretPlace) -> str:
        key = object_key(self._job_id, place.name)
        try:
            return self._objects.get(key).body.decode()
        except NotFound:
            raise NotFound(
                "what was taken for it from the shell is no longer in the bucket: submit the job"
                " again"
            ) from None
        except NotAuthorized as error:
            raise NotAuthorized(
                f"allow s3:GetObject on {key}, and kms:Decrypt on the key that the daemon's setting"
                f" kms_key names, in the policy of the instances' role ({error})"
            ) from None

    def _copied(self) -> dict[str, str] | None:
        """None where no agent has fetched any since the machine was booted."""
        try:
            values: dict[str, str] = json.loads(self._copy.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return values

    def _keep(self, values: Mapping[str, str]) -> None:
        self._copy.parent.mkdir(parents=True, exist_ok=True)
        part = self._copy.with_suffix(".part")
        part.unlink(missing_ok=True)
        _write(part, json.dumps(values), 0o600)
        part.replace(self._copy)

    def _remove_files(self) -> None:
        if self._folder.is_dir():
            self._folder.chmod(0o700)
        shutil.rmtree(self._folder, ignore_errors=True)


def _write(path: Path, text: str, mode: int) -> None:
    """At no moment can anybody else read it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "w", encoding="utf-8") as file:
        file.write(text)
