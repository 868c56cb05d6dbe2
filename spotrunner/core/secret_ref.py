"""A secret of a job: where its value is, never the value itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SecretForm(str, enum.Enum):
    """How the trainer gets it."""

    ENV = "env"
    FILE = "file"  # `$SPOTRUNNER_SECRETS_DIR/NAME`


@dataclass(frozen=True, kw_only=True)
class SecretRef:
    """`source` is `secretsmanager:ARN-OR-NAME` (with `#KEY` one key of its JSON), `ssm:/PATH`, or
    `object:NAME`: an encrypted object below the job, put there by whoever submitted it. Instances
    resolve it with their own role."""

    name: str
    source: str
    form: SecretForm = SecretForm.ENV
