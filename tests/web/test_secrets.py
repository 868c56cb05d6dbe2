"""Secrets that come with a submission: kept encrypted below the job, and nowhere else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from spotrunner.adapters import codec
from spotrunner.core.model import JobSpec
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.ports import NotAuthorized, Unavailable
from spotrunner.web.secrets import kept
from tests.web.conftest import Api, a_job

VALUE = "s3cr3t-of-the-shell"
SECRETS = {
    "WANDB_API_KEY": "env:WANDB_KEY",
    "HF_TOKEN": {"from": "ssm:/team/hf", "as": "file"},
    "DB": "secretsmanager:team/db#password",
}


def submit(api: Api, values: object, **changes: Any) -> Any:
    sent = values if isinstance(values, str) else json.dumps(values)
    return api.submit(a_job(**{"secrets": SECRETS, **changes}), secrets=sent)


def test_the_spec_names_where_they_are_and_the_bucket_has_what_was_sent(api: Api) -> None:
    answer = submit(api, {"WANDB_API_KEY": VALUE})
    assert answer.status_code == 200, answer.text
    (job,) = api.store.jobs()
    assert job.spec.secrets == (
        SecretRef(name="WANDB_API_KEY", source="object:WANDB_API_KEY"),
        SecretRef(name="HF_TOKEN", source="ssm:/team/hf", form=SecretForm.FILE),
        SecretRef(name="DB", source="secretsmanager:team/db#password"),
    )
    body = api.home.get(f"jobs/{job.id}/spec.json").body
    assert codec.from_json(JobSpec, body) == job.spec
    key = f"jobs/{job.id}/secrets/WANDB_API_KEY"
    assert api.home.get(key).body.decode() == VALUE
    assert api.home.encrypted == {key: None}
    assert VALUE not in answer.text + body.decode() + repr(job)
    assert all(VALUE not in repr(event) for event in api.store.events(job.id))


def test_a_job_shows_their_names_and_places(api: Api) -> None:
    job_id = submit(api, {"WANDB_API_KEY": VALUE}).json()["id"]
    assert api.get(f"/v1/jobs/{job_id}")["job"]["secrets"] == [
        {"name": "WANDB_API_KEY", "source": "object:WANDB_API_KEY", "as": "env"},
        {"name": "HF_TOKEN", "source": "ssm:/team/hf", "as": "file"},
        {"name": "DB", "source": "secretsmanager:team/db#password", "as": "env"},
    ]


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({}, "secrets.WANDB_API_KEY", "its value is not set"),
        ({"WANDB_API_KEY": ""}, "secrets.WANDB_API_KEY", "its value is empty"),
        (
            {"WANDB_API_KEY": f"{VALUE}\0"},
            "secrets.WANDB_API_KEY",
            "its value has a NUL character, which no environment can carry",
        ),
        (
            {"WANDB_API_KEY": VALUE * 4000},
            "secrets.WANDB_API_KEY",
            "its value is longer than 64 KiB",
        ),
        (
            {"WANDB_API_KEY": "ok-value", "HF_TOKEN": VALUE},
            "secrets",
            "a value came that no env:NAME asks for",
        ),
        ([VALUE], "secrets", "expected the values of secrets as JSON: {NAME: VALUE}"),
        ({"WANDB_API_KEY": [VALUE]}, "secrets", "expected the values of secrets as JSON:"),
        (f"{{{VALUE}", "secrets", "expected the values of secrets as JSON:"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_not_shown(
    api: Api, values: object, key: str, message: str
) -> None:
    answer = submit(api, values)
    assert answer.status_code == 422
    (wrong,) = answer.json()["errors"]
    assert wrong["key"] == key
    assert wrong["message"].startswith(message)
    assert VALUE not in answer.text
    assert (api.stored_keys, api.store.jobs()) == ([], ())


@pytest.mark.parametrize(
    "secrets",
    [
        {"WANDB_API_KEY": VALUE},
        {"WANDB_API_KEY": {"from": VALUE}},
        {"WANDB_API_KEY": {"value": VALUE}},
        {"WANDB_API_KEY": [VALUE]},
        {"WANDB_API_KEY": {"from": "ssm:/x", "as": VALUE}},
        {"WANDB_API_KEY": f"vault:{VALUE}"},
        {"WANDB_API_KEY": f"ssm:{VALUE}!"},
        {"WANDB_API_KEY": f"secretsmanager:{VALUE}?"},
        {"WANDB_API_KEY": f"env:{VALUE}"},
        {"WANDB_API_KEY": f"object:{VALUE}"},
        {VALUE: "ssm:/x"},
        [VALUE],
        VALUE,
    ],
)
def test_no_error_shows_what_may_be_a_secret(api: Api, secrets: object) -> None:
    answer = submit(api, {}, secrets=secrets)
    assert answer.status_code == 422
    assert VALUE not in answer.text


def test_a_job_that_is_not_taken_leaves_none(api: Api) -> None:
    api.home.fail_next("put", Unavailable("503"), prefix="jobs/")
    assert submit(api, {"WANDB_API_KEY": VALUE}).status_code == 503
    assert api.stored_keys == []


def test_nor_does_one_that_fails_after_they_were_put(api: Api) -> None:
    with (
        contextlib.suppress(Unavailable),
        kept(api.home, "x-7f3a", {"A": "1", "B": "2"}, "alias/k"),
    ):
        assert api.stored_keys == ["jobs/x-7f3a/secrets/A", "jobs/x-7f3a/secrets/B"]
        assert set(api.home.encrypted.values()) == {"alias/k"}
        raise Unavailable("503")
    assert api.stored_keys == []


def test_a_key_that_the_daemon_may_not_use_is_told(api: Api) -> None:
    refusal = NotAuthorized("kms:GenerateDataKey is not allowed on alias/spotrunner")
    api.home.fail_next("put", refusal, prefix="jobs/")
    answer = submit(api, {"WANDB_API_KEY": VALUE})
    assert answer.status_code == 403
    assert "kms:GenerateDataKey" in answer.text
