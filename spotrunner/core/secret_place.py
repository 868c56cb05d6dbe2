"""Where the value of a secret is kept, read from the text that names the place.

Nothing here says in an error what it found: whoever pastes a secret where its place belongs must
not meet it in a terminal or a log.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class Keeper(str, enum.Enum):
    """Who has it. The values are how a source begins."""

    SECRETS_MANAGER = "secretsmanager"
    SSM = "ssm"
    OBJECT = "object"  # in the home bucket, put there at the submission


@dataclass(frozen=True, kw_only=True)
class SecretPlace:
    """`name` as the keeper knows it, an ARN too; `key` is one of the keys of a secret that is JSON;
    `region` is what an ARN names, None: home."""

    keeper: Keeper
    name: str
    key: str = ""
    region: str | None = None


def place_of(source: str) -> SecretPlace:
    """Raises ValueError with what a source must be, and without this one."""
    scheme, _, rest = source.partition(":")
    if scheme == Keeper.SECRETS_MANAGER.value:
        return _of_secrets_manager(rest)
    if scheme == Keeper.SSM.value:
        return _of_ssm(rest)
    if scheme == Keeper.OBJECT.value and _VARIABLE.fullmatch(rest):
        return SecretPlace(keeper=Keeper.OBJECT, name=rest)
    raise ValueError("expected secretsmanager:NAME-OR-ARN or ssm:/PATH")


def objects_of(job_id: str) -> str:
    """The prefix of a job's encrypted objects in the home bucket."""
    return f"jobs/{job_id}/secrets/"


def object_key(job_id: str, name: str) -> str:
    return objects_of(job_id) + name


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARN = r"arn:aws[a-z-]*:{service}:(?P<region>[a-z]{{2}}(?:-[a-z]+)+-[0-9]):[0-9]{{12}}:{name}"
_SECRET_NAME = r"[A-Za-z0-9/_+=.@-]{1,512}"
_SECRET = re.compile(_SECRET_NAME)
_SECRET_ARN = re.compile(_ARN.format(service="secretsmanager", name=f"secret:{_SECRET_NAME}"))
_LEVEL = r"[A-Za-z0-9_.-]+"
# At its end may stand a version's number, or a label.
_VERSION = r"(?::[A-Za-z0-9_.-]+)?"
_PARAMETER = re.compile(rf"(?:{_LEVEL}|(?:/{_LEVEL}){{1,15}}){_VERSION}")
_PARAMETER_ARN = re.compile(_ARN.format(service="ssm", name=rf"parameter(?:/{_LEVEL})+{_VERSION}"))
_ARN_BEGINS = "arn:"


def _of_secrets_manager(rest: str) -> SecretPlace:
    name, hash_, key = rest.partition("#")
    if hash_ and not key:
        raise ValueError("after # one key of its JSON is expected: leave the # out for all of it")
    region = None
    if name.startswith(_ARN_BEGINS):
        found = _SECRET_ARN.fullmatch(name)
        if found is None:
            raise ValueError(
                "expected the ARN of a secret, such as secretsmanager:"
                "arn:aws:secretsmanager:us-east-1:111122223333:secret:wandb-a1b2c3"
            )
        region = found["region"]
    elif not _SECRET.fullmatch(name):
        raise ValueError(
            "expected the name or the ARN of a secret, such as secretsmanager:team/wandb (letters,"
            " digits and / _ + = . @ -), with #KEY behind it for one key of its JSON"
        )
    return SecretPlace(keeper=Keeper.SECRETS_MANAGER, name=name, key=key, region=region)


def _of_ssm(rest: str) -> SecretPlace:
    region = None
    if rest.startswith(_ARN_BEGINS):
        found = _PARAMETER_ARN.fullmatch(rest)
        if found is None:
            raise ValueError(
                "expected the ARN of a parameter, such as"
                " ssm:arn:aws:ssm:us-east-1:111122223333:parameter/team/wandb"
            )
        region = found["region"]
    elif not _PARAMETER.fullmatch(rest):
        raise ValueError(
            "expected the name of a parameter, such as ssm:/team/wandb: a path begins with a slash"
            " and does not end with one, and has letters, digits and . - _"
        )
    return SecretPlace(keeper=Keeper.SSM, name=rest, region=region)
