"""The key `secrets` of a job file: which secrets a trainer gets, how, and where their values are.

A value of `secrets` may be a secret itself, by mistake: no error says what it found there. That is
why everything is checked here, and nothing by pydantic's own rules, which would.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from spotrunner.core.catalogue import closest_name
from spotrunner.core.located import Problem
from spotrunner.core.secret_place import Keeper, object_key, place_of
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.ports import Objects, PortError

ENV = "env"
SCHEMES = (Keeper.SECRETS_MANAGER.value, Keeper.SSM.value, ENV)
MAX_SECRETS = 50
# What Secrets Manager takes, so that a secret can be moved there.
MAX_VALUE_BYTES = 64 * 1024

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"[a-z]{2,20}:")
_KEYS = {"from", "as"}


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """One of them, as it is written. `source` begins with one of SCHEMES."""

    source: str
    form: SecretForm

    @property
    def variable(self) -> str | None:
        """Of the shell that submits the job, where the value comes from there."""
        scheme, _, name = self.source.partition(":")
        return name if scheme == ENV else None


def refs(secrets: Mapping[str, SecretFile]) -> tuple[SecretRef, ...]:
    """As the instances read it: what came from a shell lies encrypted below the job."""
    return tuple(
        SecretRef(
            name=name,
            source=f"{Keeper.OBJECT.value}:{name}" if it.variable else it.source,
            form=it.form,
        )
        for name, it in secrets.items()
    )


def variables(secrets: Mapping[str, SecretFile]) -> dict[str, str]:
    """The secrets whose values come with the submission, and the shell's name of each."""
    return {name: it.variable for name, it in secrets.items() if it.variable}


def value_problem(value: str | None) -> str | None:
    """What is wrong with a value that comes with a submission."""
    if not value:
        return "is empty" if value is not None else "is not set"
    if "\0" in value:
        return "has a NUL character, which no environment can carry"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is no UTF-8 text"
    if size > MAX_VALUE_BYTES:
        return f"is longer than {MAX_VALUE_BYTES // 1024} KiB"
    return None


def value_problems(secrets: Mapping[str, SecretFile], values: Mapping[str, str]) -> list[Problem]:
    """Of the values that were sent along with a job."""
    wanted = variables(secrets)
    wrong = [
        Problem(
            message=f"its value {problem}",
            key=f"secrets.{name}",
            hint="`spotrunner submit` sends it along from its shell",
        )
        for name in wanted
        if (problem := value_problem(values.get(name)))
    ]
    if values.keys() - wanted.keys():
        wrong.append(Problem(message="a value came that no env:NAME asks for", key="secrets"))
    return wrong


def parse_values(text: str) -> dict[str, str]:
    """The values that were sent along, by the secrets' names. Raises ValueError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    # The text of a JSON error could have a piece of a value.
    if not isinstance(values, dict) or not all(isinstance(it, str) for it in values.values()):
        raise ValueError("expected the values of secrets as JSON: {NAME: VALUE}")
    return values


@contextlib.contextmanager
def kept(
    objects: Objects, job_id: str, values: Mapping[str, str], kms_key: str | None
) -> Iterator[None]:
    """They lie encrypted below the job, and do not stay there if it is not taken after all. Raises
    PortError."""
    keys = [object_key(job_id, name) for name in values]
    try:
        for key, value in zip(keys, values.values(), strict=True):
            objects.put_encrypted(key, value.encode(), kms_key)
        yield
    except BaseException:
        with contextlib.suppress(PortError):
            objects.delete(keys)
        raise


def clash(secrets: Mapping[str, SecretFile], envs: Mapping[str, str]) -> str | None:
    """A trainer has one environment."""
    both = [name for name in secrets if name in envs]
    if not both:
        return None
    what = "it is" if len(both) == 1 else "they are"
    return f"{', '.join(both)}: {what} in envs as well: take the plain text out of there"


# -- what a value must be ----------------------------------------------------------------------


def _mapping(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(
            "expected `NAME: secretsmanager:…`, `NAME: ssm:/…` or `NAME: env:VARIABLE` lines"
        )
    if len(value) > MAX_SECRETS:
        raise ValueError(f"expected at most {MAX_SECRETS}")
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in value):
        raise ValueError("the name of one is no variable's name (A-Z a-z 0-9 _)")
    return value


def _secret(value: Any) -> SecretFile:
    if isinstance(value, SecretFile):
        return value
    if not isinstance(value, dict):
        return SecretFile(source=_source(value), form=SecretForm.ENV)
    if "from" not in value or value.keys() - _KEYS:
        raise ValueError("expected its place, or {from: PLACE, as: file}")
    form = value.get("as", SecretForm.ENV.value)
    if form not in {each.value for each in SecretForm}:
        raise ValueError("as: expected env or file")
    return SecretFile(source=_source(value["from"]), form=SecretForm(form))


def _source(value: Any) -> str:
    if value is None:
        raise ValueError("it has no place: write where it is kept, such as ssm:/team/wandb")
    if not isinstance(value, str):
        raise ValueError(_ITSELF)
    scheme, _, rest = value.partition(":")
    if scheme == ENV:
        if not _NAME.fullmatch(rest):
            raise ValueError("expected env:NAME, a variable of your shell (A-Z a-z 0-9 _)")
    elif scheme in SCHEMES:
        place_of(value)
    else:
        raise ValueError(_strange(value, scheme))
    return value


_PLACES = "secretsmanager:NAME-OR-ARN, ssm:/PATH, or env:NAME for a variable of your shell"
_ITSELF = (
    "it looks like a secret itself, and a job file is no place for one: put it into Secrets"
    f" Manager, the Parameter Store or your shell, and write {_PLACES}; then make a new one, if"
    " others may have read this file"
)


def _strange(value: str, scheme: str) -> str:
    likely = closest_name(scheme, SCHEMES) if ":" in value else None
    if likely is not None:
        return f"expected {_PLACES}; did you mean {likely}:?"
    if _SCHEME.match(value):
        return f"it begins with none of the places that are known: expected {_PLACES}"
    return _ITSELF


def _written(value: SecretFile) -> str | dict[str, str]:
    if value.form is SecretForm.ENV:
        return value.source
    return {"from": value.source, "as": value.form.value}


Secret = Annotated[SecretFile, BeforeValidator(_secret), PlainSerializer(_written)]
NamedSecrets = BeforeValidator(_mapping)
