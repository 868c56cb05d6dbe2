"""ports.Secrets over Secrets Manager and the Parameter Store of Systems Manager."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.secret_place import Keeper, SecretPlace
from spotrunner.ports import Misconfigured, NotAuthorized, NotFound

# In the text of a refusal that was not about the secret, but about the key that it is encrypted
# with: `Access to KMS is not allowed`, `The ciphertext refers to a customer master key that …`.
_OF_THE_KEY = ("KMS", "kms:", "ciphertext")


class AwsSecrets:
    """`home_region` is where names without a region are looked up."""

    def __init__(self, aws: Aws, home_region: str) -> None:
        self._aws = aws
        self._home_region = home_region

    def read(self, place: SecretPlace) -> str:
        assert place.keeper is not Keeper.OBJECT, "objects are read from their bucket"
        region = place.region or self._home_region
        with _about(place, region):
            if place.keeper is Keeper.SSM:
                return self._parameter(place, region)
            return _picked(place, self._secret(place, region))

    def _parameter(self, place: SecretPlace, region: str) -> str:
        with by_meaning():
            answer = self._aws.ssm(region).get_parameter(Name=place.name, WithDecryption=True)
        return answer["Parameter"]["Value"]

    def _secret(self, place: SecretPlace, region: str) -> str:
        with by_meaning():
            answer = self._aws.secretsmanager(region).get_secret_value(SecretId=place.name)
        if "SecretString" not in answer:
            raise Misconfigured(f"{_words(place, region)} is binary: store it as text")
        return answer["SecretString"]


def _picked(place: SecretPlace, text: str) -> str:
    """One key of its JSON, where the place names one."""
    if not place.key:
        return text
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        # The text of a JSON error has a piece of what it read: it is not shown.
        raise Misconfigured(f"{place.name} is no JSON object: leave #{place.key} out")
    value = values.get(place.key)
    if value is None:
        raise Misconfigured(f"{place.name} has no key {place.key}: see which keys its JSON has")
    return value if isinstance(value, str) else json.dumps(value)


# -- errors ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _about(place: SecretPlace, region: str) -> Iterator[None]:
    """Errors with the place, and with what to do."""
    try:
        yield
    except NotFound:
        raise NotFound(f"{_words(place, region)} does not exist there: {_fix(place)}") from None
    except NotAuthorized as error:
        raise NotAuthorized(_grant(place, region, str(error))) from None


def _words(place: SecretPlace, region: str) -> str:
    kind = "parameter" if place.keeper is Keeper.SSM else "secret"
    return f"the {kind} {place.name} in {region}"


def _fix(place: SecretPlace) -> str:
    where = "" if place.region else ", which is looked for in the home bucket's region"
    return f"put it, or correct its name{where}"


def _grant(place: SecretPlace, region: str, said: str) -> str:
    if any(word in said for word in _OF_THE_KEY):
        what = f"kms:Decrypt on the key that {_words(place, region)} is encrypted with"
    elif place.keeper is Keeper.SSM:
        what = f"ssm:GetParameter on {_parameter_arn(place, region)}"
    else:
        what = f"secretsmanager:GetSecretValue on {_secret_arn(place, region)}"
    return f"allow {what} in the policy of the instances' role ({said})"


def _parameter_arn(place: SecretPlace, region: str) -> str:
    if place.region:
        return place.name
    return f"arn:aws:ssm:{region}:*:parameter/{place.name.lstrip('/').partition(':')[0]}"


def _secret_arn(place: SecretPlace, region: str) -> str:
    # Secrets Manager puts a dash and six characters of its own behind each name.
    name = f"arn:aws:secretsmanager:{region}:*:secret:{place.name}-??????"
    return place.name if place.region else name
