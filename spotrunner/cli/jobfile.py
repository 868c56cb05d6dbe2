"""A job file: YAML text and `--env` to the fields that the API takes, or all that is wrong at once.

What a field must be is the API's own schema (web/schema); here is only what the API cannot know:
lines, the user's name and environment, and the workdir on this machine.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spotrunner.cli.failure import BadInput
from spotrunner.cli.workdir import Listing, Unpackable, listed
from spotrunner.core import located
from spotrunner.core.located import BadFile, Document, Problem
from spotrunner.core.names import NOBODY, nearest_name
from spotrunner.web import secrets
from spotrunner.web.schema import JobFile

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_TOP_KEY = re.compile(r"""["']?([A-Za-z_]\w*)["']?\s*:""")


# Stands in for a value that is missing, where it would only be found missing twice.
_STAND_IN = "value"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job file that is right as far as this machine can tell. `fields` is what the API takes, and
    `secret_values` what it keeps encrypted: those that the file takes from this shell."""

    file: str
    document: Document
    job: JobFile
    fields: dict[str, Any]
    workdir: Listing | None
    secret_values: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    def lines(self, problems: Sequence[Problem]) -> list[str]:
        """What the daemon warns of, one line each, with the lines of the file."""
        return located.lines(self.file, self._placed(problems))

    def bad(self, problems: Sequence[Problem]) -> BadFile:
        """What the daemon found wrong with the fields, with the lines of the file."""
        return BadFile(self.file, self._placed(problems))

    def _placed(self, problems: Sequence[Problem]) -> list[Problem]:
        paths = [self.document.path_of(problem.key) for problem in problems]
        return [
            dataclasses.replace(problem, line=self.document.line_of(path) if path else None)
            for problem, path in zip(problems, paths, strict=True)
        ]


def read_job(path: Path, given: Mapping[str, str]) -> Submission:
    """`given` are the values of `--env`, which win over the file's. Raises BadFile."""
    file = str(path)
    document = _document(_text(path), file)
    envs, problems = _envs(document, given)
    data, unknown = _data(document, envs.get("envs", {}))
    problems += unknown
    job = None
    try:
        job = JobFile.model_validate({**document.values, **envs, **data})
    except ValidationError as error:
        problems += located.located(error.errors(), document, JobFile)
    workdir, more = _workdir(document, path.parent)
    values, missing = _secret_values(job.secrets if job else {}, document)
    problems += [*more, *missing]
    if job is None or problems:
        raise BadFile(file, problems)
    # The folder's path is this machine's affair: the API gets the archive.
    fields = job.model_dump(mode="json", exclude_unset=True, exclude={"workdir"})
    fields.setdefault("owner", login())
    return Submission(
        file=file,
        document=document,
        job=job,
        fields=fields,
        workdir=workdir,
        secret_values=values,
    )


def login() -> str:
    """Of whoever submits, in the letters of a name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        return NOBODY  # a user id without a name, as containers have them
    return nearest_name(name) or NOBODY


def given_envs(words: Sequence[str]) -> dict[str, str]:
    """`K=V` as it stands; `K` alone takes the value of this shell's environment.
    Raises BadInput."""
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not _NAME.fullmatch(name):
            raise BadInput(f"--env {word}: expected NAME=VALUE, or NAME to take it from your shell")
        if not equals:
            if name not in os.environ:
                raise BadInput(f"--env {name}: your shell has no {name}; give --env {name}=VALUE")
            value = os.environ[name]
        values[name] = value
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadFile(str(path), [Problem(message=str(error.strerror))]) from None
    except UnicodeDecodeError:
        raise BadFile(str(path), [Problem(message="it is not UTF-8 text")]) from None


# -- environment -------------------------------------------------------------------------------


def _envs(document: Document, given: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """`envs` with the values as they were written (0.10 stays 0.10) and those of `--env`; what
    has none is a problem. Nothing where the file's `envs` is none: the schema says so."""
    envs = document.values.get("envs") or {}
    if not isinstance(envs, dict):
        return {}, []
    values = {str(name): _written(name, value, document) for name, value in envs.items()}
    values.update(given)
    missing = [name for name, value in values.items() if value is None]
    problems = [
        Problem(
            message="has no value",
            key=f"envs.{name}",
            line=document.line_of(("envs", name)),
            hint=f"give it there or with --env {name}=VALUE",
        )
        for name in missing
    ]
    values.update(dict.fromkeys(missing, _STAND_IN))
    return ({"envs": values} if values else {}), problems


def _written(name: object, value: Any, document: Document) -> Any:
    scalar = value is not None and not isinstance(value, (dict, list))
    return document.words.get(("envs", str(name)), value) if scalar else value


# -- secrets -----------------------------------------------------------------------------------


def _secret_values(
    given: Mapping[str, secrets.SecretFile], document: Document
) -> tuple[dict[str, str], list[Problem]]:
    """Of those that the file takes from this shell. No problem shows one."""
    values, problems = {}, []
    for name, variable in secrets.variables(given).items():
        value = os.environ.get(variable)
        problem = secrets.value_problem(value)
        if problem is None and value is not None:
            values[name] = value
            continue
        problems.append(
            Problem(
                message=f"{variable} {problem} in your shell",
                key=f"secrets.{name}",
                line=document.line_of(("secrets", name)),
                hint=f"export {variable}=… before you submit",
            )
        )
    return values, problems


def _document(text: str, file: str) -> Document:
    """What YAML says of a broken line may have a piece of it: not of those that have secrets."""
    try:
        return located.read(text, file)
    except BadFile as error:
        raise BadFile(file, [_without_words(it, text) for it in error.problems]) from None


def _without_words(problem: Problem, text: str) -> Problem:
    above = text.splitlines()[: problem.line or 0]
    keys = [found for line in above if (found := _TOP_KEY.match(line))]
    if not keys or keys[-1][1] != "secrets" or problem.key:
        return problem
    return dataclasses.replace(problem, message="not valid YAML", hint="put the value in quotes")


# -- data --------------------------------------------------------------------------------------


def _data(document: Document, envs: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """`data` with the values of envs in place of `${NAME}` in its sources."""
    data = document.values.get("data")
    if not isinstance(data, list):
        return {}, []
    problems: list[Problem] = []
    filled = []
    for index, entry in enumerate(data):
        source = entry.get("source") if isinstance(entry, dict) else None
        if not isinstance(source, str):
            filled.append(entry)
            continue
        path = ("data", index, "source")
        problems += [
            Problem(
                message=f"${{{name}}} is no key of envs",
                key=located.dotted(path),
                line=document.line_of(path),
                hint=f"add it there, or give --env {name}=VALUE",
            )
            for name in _REFERENCE.findall(source)
            if name not in envs
        ]
        value = _REFERENCE.sub(lambda found: str(envs.get(found[1], _STAND_IN)), source)
        filled.append({**entry, "source": value})
    return {"data": filled}, problems


# -- workdir -----------------------------------------------------------------------------------


def _workdir(document: Document, folder: Path) -> tuple[Listing | None, list[Problem]]:
    named = document.values.get("workdir")
    if not isinstance(named, str) or not named:
        return None, []
    path, line = folder / Path(named).expanduser(), document.line_of(("workdir",))
    if not path.is_dir():
        message = f"{named} is no folder" if path.exists() else f"{named} does not exist"
        hint = "" if Path(named).is_absolute() else f"it was looked for in {folder.resolve()}"
        return None, [Problem(message=message, key="workdir", line=line, hint=hint)]
    try:
        return listed(path), []
    except Unpackable as error:
        return None, [Problem(message=it, key="workdir", line=line) for it in error.problems]
