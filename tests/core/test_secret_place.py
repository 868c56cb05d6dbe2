"""Where a secret is kept, read from text; and what is said of text that is no place."""

from __future__ import annotations

import pytest

from spotrunner.core.secret_place import Keeper, SecretPlace, object_key, objects_of, place_of

ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:team/wandb-a1b2c3"
CHINESE_ARN = "arn:aws-cn:secretsmanager:cn-north-1:111122223333:secret:wandb-a1b2c3"
PARAMETER_ARN = "arn:aws:ssm:us-west-2:111122223333:parameter/team/wandb"


@pytest.mark.parametrize(
    ("source", "keeper", "name", "key", "region"),
    [
        ("secretsmanager:wandb", "secretsmanager", "wandb", "", None),
        ("secretsmanager:team/wandb#api_key", "secretsmanager", "team/wandb", "api_key", None),
        (f"secretsmanager:{ARN}", "secretsmanager", ARN, "", "eu-west-1"),
        (f"secretsmanager:{ARN}#api key", "secretsmanager", ARN, "api key", "eu-west-1"),
        (f"secretsmanager:{CHINESE_ARN}", "secretsmanager", CHINESE_ARN, "", "cn-north-1"),
        ("ssm:/team/wandb", "ssm", "/team/wandb", "", None),
        ("ssm:/team/wandb:3", "ssm", "/team/wandb:3", "", None),
        ("ssm:wandb", "ssm", "wandb", "", None),
        (f"ssm:{PARAMETER_ARN}", "ssm", PARAMETER_ARN, "", "us-west-2"),
        ("object:WANDB_API_KEY", "object", "WANDB_API_KEY", "", None),
    ],
)
def test_a_place(source: str, keeper: str, name: str, key: str, region: str | None) -> None:
    assert place_of(source) == SecretPlace(keeper=Keeper(keeper), name=name, key=key, region=region)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "hunter2",
        "vault:hunter2",
        "env:hunter2",
        "secretsmanager:",
        "secretsmanager:hunter2!",
        "secretsmanager:hunter2#",
        "secretsmanager:arn:aws:ssm:us-east-1:111122223333:parameter/hunter2",
        "secretsmanager:arn:aws:secretsmanager:us-east-1:1:secret:hunter2",
        "ssm:",
        "ssm:team/hunter2",
        "ssm:/hunter2/",
        "ssm://hunter2",
        "ssm:/hunter 2",
        "ssm:arn:aws:ssm:us-east-1:111122223333:hunter2",
        "object:../hunter2",
    ],
)
def test_what_is_no_place_is_told_without_what_was_found(source: str) -> None:
    with pytest.raises(ValueError, match=r"expected") as told:
        place_of(source)
    assert "hunter" not in str(told.value)


def test_the_objects_of_a_job_lie_below_it() -> None:
    assert object_key("digits-7f3a", "HF_TOKEN") == "jobs/digits-7f3a/secrets/HF_TOKEN"
    assert object_key("digits-7f3a", "HF_TOKEN").startswith(objects_of("digits-7f3a"))
