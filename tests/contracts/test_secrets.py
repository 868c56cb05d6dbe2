"""ports.Secrets over Secrets Manager and the Parameter Store: as moto plays them, and refusals in
AWS's own words over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from spotrunner.adapters.aws.secrets import AwsSecrets
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.secret_place import place_of
from spotrunner.lab.endpoint.server import HttpServer
from spotrunner.ports import (
    Misconfigured,
    NotAuthorized,
    NotFound,
    PortError,
    Throttled,
    Unavailable,
)
from tests.contracts.conftest import set_keys
from tests.contracts.s3 import REGION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ELSEWHERE = "eu-west-1"


@pytest.fixture
def secrets(aws: Aws) -> AwsSecrets:
    return AwsSecrets(aws, REGION)


def read(secrets: AwsSecrets, source: str) -> str:
    return secrets.read(place_of(source))


def test_a_secret_is_read_by_its_name_in_the_home_region(aws: Aws, secrets: AwsSecrets) -> None:
    aws.secretsmanager(REGION).create_secret(Name="team/name", SecretString="by-name")
    assert read(secrets, "secretsmanager:team/name") == "by-name"


def test_and_by_its_arn_in_the_region_that_this_names(aws: Aws, secrets: AwsSecrets) -> None:
    made = aws.secretsmanager(ELSEWHERE).create_secret(Name="far", SecretString="by-arn")
    assert read(secrets, f"secretsmanager:{made['ARN']}") == "by-arn"
    with pytest.raises(NotFound):
        read(secrets, "secretsmanager:far")


def test_one_key_of_a_secret_that_is_json(aws: Aws, secrets: AwsSecrets) -> None:
    text = json.dumps({"api_key": "k-1", "port": 8080, "empty": None})
    aws.secretsmanager(REGION).create_secret(Name="keys", SecretString=text)
    assert read(secrets, "secretsmanager:keys#api_key") == "k-1"
    assert read(secrets, "secretsmanager:keys#port") == "8080"
    assert read(secrets, "secretsmanager:keys") == text
    for absent in ("other", "empty"):
        with pytest.raises(Misconfigured, match=f"keys has no key {absent}: see which keys"):
            read(secrets, f"secretsmanager:keys#{absent}")


@pytest.mark.parametrize("text", ["hunter2", '["hunter2"]', '{"hunter2": '])
def test_what_is_no_json_is_not_shown(aws: Aws, secrets: AwsSecrets, text: str) -> None:
    name = f"plain-{len(text)}"
    aws.secretsmanager(REGION).create_secret(Name=name, SecretString=text)
    with pytest.raises(Misconfigured, match="is no JSON object: leave #key out") as told:
        read(secrets, f"secretsmanager:{name}#key")
    assert "hunter2" not in str(told.value)


def test_a_binary_secret_is_refused(aws: Aws, secrets: AwsSecrets) -> None:
    aws.secretsmanager(REGION).create_secret(Name="binary", SecretBinary=b"\x00\x01")
    with pytest.raises(Misconfigured, match="the secret binary in us-east-1 is binary: store it"):
        read(secrets, "secretsmanager:binary")


def test_a_parameter_is_decrypted(aws: Aws, secrets: AwsSecrets) -> None:
    put = aws.ssm(REGION).put_parameter
    put(Name="/team/wandb", Value="s-1", Type="SecureString")
    put(Name="/team/wandb", Value="s-2", Type="SecureString", Overwrite=True)
    put(Name="plain", Value="p-1", Type="String")
    assert read(secrets, "ssm:/team/wandb") == "s-2"
    assert read(secrets, "ssm:/team/wandb:1") == "s-1"
    assert read(secrets, "ssm:plain") == "p-1"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "secretsmanager:none",
            "the secret none in us-east-1 does not exist there: put it, or correct its name, which"
            " is looked for in the home bucket's region",
        ),
        (
            "ssm:/none",
            "the parameter /none in us-east-1 does not exist there: put it, or correct its name,"
            " which is looked for in the home bucket's region",
        ),
        (
            "secretsmanager:arn:aws:secretsmanager:eu-west-1:111122223333:secret:none-a1b2c3",
            "the secret arn:aws:secretsmanager:eu-west-1:111122223333:secret:none-a1b2c3 in"
            " eu-west-1 does not exist there: put it, or correct its name",
        ),
    ],
)
def test_what_is_not_there(secrets: AwsSecrets, source: str, words: str) -> None:
    with pytest.raises(NotFound) as told:
        read(secrets, source)
    assert str(told.value) == words


# -- refusals ----------------------------------------------------------------------------------


class Refusing:
    """Answers every request with one error, in the JSON that both services speak."""

    def __init__(self) -> None:
        self.code, self.message, self.status = "", "", 400
        self._server = HttpServer(self._serve)
        self.url = self._server.url
        self._server.start()

    def close(self) -> None:
        self._server.close()

    def _serve(self, _: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = json.dumps({"__type": self.code, "Message": self.message}).encode()
        headers = [
            ("Content-Type", "application/x-amz-json-1.1"),
            ("Content-Length", str(len(body))),
        ]
        start(f"{self.status} Refused", headers)
        return [body]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    set_keys(monkeypatch)
    server = Refusing()
    yield server
    server.close()


ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:wandb-a1b2c3"
PARAMETER_ARN = "arn:aws:ssm:us-west-2:111122223333:parameter/team/wandb"
NO_POLICY = "is not authorized because no identity-based policy allows it"
NO_KEY = "Access to KMS is not allowed"
NO_CIPHER = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this"
    " region, or you are not allowed to access."
)
ROLE = "in the policy of the instances' role"


@pytest.mark.parametrize(
    ("source", "said", "granted"),
    [
        (
            "secretsmanager:team/wandb",
            NO_POLICY,
            "allow secretsmanager:GetSecretValue on"
            f" arn:aws:secretsmanager:us-east-1:*:secret:team/wandb-?????? {ROLE}",
        ),
        (
            f"secretsmanager:{ARN}",
            NO_POLICY,
            f"allow secretsmanager:GetSecretValue on {ARN} {ROLE}",
        ),
        (
            "ssm:/team/wandb:3",
            NO_POLICY,
            f"allow ssm:GetParameter on arn:aws:ssm:us-east-1:*:parameter/team/wandb {ROLE}",
        ),
        (f"ssm:{PARAMETER_ARN}", NO_POLICY, f"allow ssm:GetParameter on {PARAMETER_ARN} {ROLE}"),
        (
            "secretsmanager:wandb",
            NO_KEY,
            "allow kms:Decrypt on the key that the secret wandb in us-east-1 is encrypted with"
            f" {ROLE}",
        ),
        (
            "ssm:/wandb",
            NO_CIPHER,
            "allow kms:Decrypt on the key that the parameter /wandb in us-east-1 is encrypted with"
            f" {ROLE}",
        ),
    ],
)
def test_a_missing_right_is_told_as_what_to_grant(
    refusing: Refusing, source: str, said: str, granted: str
) -> None:
    refusing.code, refusing.message = "AccessDeniedException", said
    with pytest.raises(NotAuthorized) as told:
        read(AwsSecrets(Aws(endpoint_url=refusing.url), REGION), source)
    assert str(told.value).startswith(granted)
    assert said.rstrip(".") in str(told.value)


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("ThrottlingException", 400, Throttled),
        ("InternalServiceError", 500, Unavailable),
        ("InternalServerError", 500, Unavailable),
        ("DecryptionFailure", 400, Misconfigured),
        ("InvalidRequestException", 400, Misconfigured),
        ("InvalidKeyId", 400, Misconfigured),
        ("ParameterVersionNotFound", 400, NotFound),
    ],
)
def test_other_refusals_by_their_meaning(
    refusing: Refusing, code: str, status: int, meaning: type[PortError]
) -> None:
    refusing.code, refusing.status = code, status
    with pytest.raises(PortError) as told:
        read(AwsSecrets(Aws(endpoint_url=refusing.url), REGION), "ssm:/wandb")
    assert type(told.value) is meaning
