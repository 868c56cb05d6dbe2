"""What S3 is told of objects that are secrets, and what it says when a key of KMS is not ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from tests.contracts.s3 import REGION, MotoServer

KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.mark.parametrize("kms_key", [None, KEY])
def test_the_stored_object_is_encrypted_with_kms(moto: MotoServer, kms_key: str | None) -> None:
    aws = Aws(endpoint_url=moto.url)
    client, bucket = aws.s3(REGION), moto.bucket(aws)
    objects = S3Objects(client, bucket)
    objects.put("plain", b"x")
    objects.put_encrypted("jobs/digits-7f3a/secrets/HF_TOKEN", b"s-1", kms_key)
    told = client.head_object(Bucket=bucket, Key="jobs/digits-7f3a/secrets/HF_TOKEN")
    assert told["ServerSideEncryption"] == "aws:kms"
    assert told.get("SSEKMSKeyId") == kms_key
    plain = client.head_object(Bucket=bucket, Key="plain")
    assert plain.get("ServerSideEncryption") != "aws:kms"
    aws.close()
