"""The names of things: an attempt's id carries its job and generation, so that mail, tags and
tokens can be read without the store."""

from __future__ import annotations

# EC2 allows this many ASCII characters in a ClientToken.
TOKEN_LENGTH = 64

TAG_INSTALLATION = "spotrunner:installation"
TAG_JOB = "spotrunner:job"
TAG_ATTEMPT = "spotrunner:attempt"
# Where its letters lie (`home_tag`): whoever has neither the store nor the settings at hand can
# still tell it to stop.
TAG_HOME = "spotrunner:home"
# The subnets to use, where they are not those of the default VPC; any value.
TAG_SUBNET = "spotrunner:subnet"


def home_tag(bucket: str, region: str) -> str:
    """The value of TAG_HOME. No bucket's name has a slash."""
    return f"{bucket}/{region}"


def home_of(tag: str) -> tuple[str, str] | None:
    """Bucket and region; None for a value that is not one."""
    bucket, slash, region = tag.partition("/")
    return (bucket, region) if bucket and slash and region and "/" not in region else None


# A colon is in no job's name: nobody's attempt is taken for a bake.
_BAKE = "bake:"


def bake_id(nonce: str) -> str:
    """Of an instance that an image is made on: it has this where others have their attempt."""
    return _BAKE + nonce


def is_bake(attempt: str | None) -> bool:
    return attempt is not None and attempt.startswith(_BAKE)


def attempt_id(job_id: str, generation: int) -> str:
    return f"{job_id}.{generation}"


def generation_of(attempt: str) -> int | None:
    """The generation in an attempt's id; None for a name that is not one."""
    _, dot, number = attempt.rpartition(".")
    return int(number) if dot and number.isascii() and number.isdigit() else None


def job_of(attempt: str) -> str:
    """The job in an attempt's id."""
    return attempt.rpartition(".")[0]


def client_token(installation: str, attempt: str) -> str:
    """Two installations of one account never share a token, nor do two attempts."""
    token = f"{installation}.{attempt}"
    assert len(token) <= TOKEN_LENGTH, f"the token {token} is longer than EC2 allows"
    assert token.isascii(), token
    return token
