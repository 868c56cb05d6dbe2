"""The policies of docs/aws-first-job.md allow what the adapters call, and no more than they say."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

ROOT = Path(__file__).parents[2]
ADAPTERS = [ROOT / "spotrunner" / "adapters" / name for name in ("aws", "notify")]
# ECR is first: it has images too, and the operations of EC2 that are called so count.
SERVICES = ("ecr", "ec2", "pricing", "s3", "secretsmanager", "sns", "ssm")

# Where IAM's name of an action is not the API's.
RENAMED = {
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}
# What calls bring along: a download asks for the size first, a launch tags and passes a role.
BROUGHT_ALONG = {"s3:HeadObject", "ec2:CreateTags", "ec2:DeleteSnapshot", "iam:PassRole"}

# What only some installations need lies in a policy of its own.
EXTRA = {"ecr:GetAuthorizationToken", "sns:Publish", "secretsmanager:GetSecretValue"}
BAKING = {
    "ec2:CopyImage",
    "ec2:CreateImage",
    "ec2:DeleteSnapshot",
    "ec2:DeregisterImage",
    "ec2:DescribeSnapshots",
    "ec2:GetConsoleOutput",
}

HOME = "arn:aws:s3:::my-bucket"


def called() -> set[str]:
    """`service:Operation` of every name in the adapters that is one of botocore's."""
    session = botocore.session.Session()
    operations = {
        xform_name(operation): f"{service}:{operation}"
        for service in SERVICES
        for operation in session.get_service_model(service).operation_names
    }
    paths = [path for folder in ADAPTERS for path in folder.glob("*.py")]
    names = {name for path in paths for name in names_in(path)}
    return {operations[name] for name in names & operations.keys()}


def names_in(path: Path) -> Iterator[str]:
    """Methods that are called, and words that are handed over (`get_paginator("…")`)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr
            yield from (
                word.value
                for word in node.args
                if isinstance(word, ast.Constant) and isinstance(word.value, str)
            )


def needed() -> set[str]:
    return {RENAMED.get(action, action) for action in called() | BROUGHT_ALONG}


def policies() -> Mapping[str, Any]:
    text = (ROOT / "docs" / "aws-first-job.md").read_text(encoding="utf-8")
    blocks = re.findall(r"`(\w+)-policy\.json`:\n```json\n(.*?)```", text, re.DOTALL)
    return {name: json.loads(block) for name, block in blocks}


def allows(policy: Mapping[str, Any], action: str, resource: str = "*") -> bool:
    """Whether some statement does; conditions are taken as met, and "*" as any resource."""
    return any(
        each["Effect"] == "Allow"
        and any(fnmatch.fnmatchcase(action, one) for one in listed(each["Action"]))
        and (
            resource == "*"
            or any(fnmatch.fnmatchcase(resource, one) for one in listed(each["Resource"]))
        )
        for each in policy["Statement"]
    )


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_calls_of_the_adapters_are_found() -> None:
    assert called() == {
        "ec2:CancelSpotInstanceRequests",
        "ec2:CopyImage",
        "ec2:CreateImage",
        "ec2:DeregisterImage",
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypeOfferings",
        "ec2:DescribeInstances",
        "ec2:DescribeRegions",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSnapshots",
        "ec2:DescribeSpotInstanceRequests",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSubnets",
        "ec2:GetConsoleOutput",
        "ec2:GetSpotPlacementScores",
        "ec2:RunInstances",
        "ec2:TerminateInstances",
        "ecr:GetAuthorizationToken",
        "pricing:GetProducts",
        "s3:AbortMultipartUpload",
        "s3:CompleteMultipartUpload",
        "s3:CreateMultipartUpload",
        "s3:DeleteObjects",
        "s3:GetObject",
        "s3:HeadBucket",
        "s3:ListObjectsV2",
        "s3:PutObject",
        "s3:UploadPart",
        "secretsmanager:GetSecretValue",
        "sns:Publish",
        "ssm:GetParameter",
    }


def test_the_control_host_may_do_what_the_adapters_call() -> None:
    control = policies()["control"]
    assert {action for action in needed() if not allows(control, action)} == EXTRA | BAKING


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("sns:Publish", "arn:aws:sns:us-east-1:111122223333:spotrunner"),
        ("s3:ListBucket", "arn:aws:s3:::my-data-feed"),
        ("s3:GetObject", "arn:aws:s3:::my-data-feed/111122223333.2026-11-01-12.001.a1b2c3d4.gz"),
    ],
)
def test_topics_and_a_data_feed_of_its_own_bucket_are_extras(action: str, resource: str) -> None:
    assert allows(policies()["extras"], action, resource)
    assert not allows(policies()["control"], action, resource)


def test_the_extras_allow_nothing_else() -> None:
    statements = policies()["extras"]["Statement"]
    actions = [action for each in statements for action in listed(each["Action"])]
    assert actions == ["sns:Publish", "s3:GetObject", "s3:ListBucket"]
    assert "*" not in [resource for each in statements for resource in listed(each["Resource"])]


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        (
            "secretsmanager:GetSecretValue",
            "arn:aws:secretsmanager:eu-west-1:111122223333:secret:spotrunner/wandb-a1b2c3",
        ),
        ("ssm:GetParameter", "arn:aws:ssm:us-east-1:111122223333:parameter/spotrunner/hf"),
    ],
)
def test_secrets_of_jobs_are_a_policy_of_their_own_for_the_agents(
    action: str, resource: str
) -> None:
    assert allows(policies()["secrets"], action, resource)
    others = resource.replace("spotrunner/", "payroll/")
    assert not allows(policies()["secrets"], action, others)
    assert not any(allows(policies()[name], action, resource) for name in ("agent", "control"))


def test_pulling_from_a_registry_of_the_account_is_a_policy_of_its_own() -> None:
    registry, repository = policies()["registry"], "repository/team/model"
    assert allows(registry, "ecr:GetAuthorizationToken")
    for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
        assert allows(registry, action, f"arn:aws:ecr:eu-west-1:111122223333:{repository}")
        assert not allows(registry, action, f"arn:aws:ecr:eu-west-1:999999999999:{repository}")
    assert not allows(registry, "ecr:PutImage")


def test_baking_is_a_policy_of_its_own_and_bound_to_the_tag() -> None:
    statements = policies()["bake"]["Statement"]
    actions = {action for each in statements for action in listed(each["Action"])}
    assert actions == BAKING | {"ec2:CreateTags"}
    free = [each["Sid"] for each in statements if "Condition" not in each]
    assert free == ["CopyThem", "SeeWhatTheyHold"]


def test_a_key_of_ones_own_is_lent_to_disks_and_to_nothing_else() -> None:
    statements = policies()["key"]["Statement"]
    actions = [action for each in statements for action in listed(each["Action"])]
    assert actions == [
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:ReEncrypt*",
        "kms:CreateGrant",
    ]
    assert all("Condition" in each and each["Resource"] != "*" for each in statements)


def test_an_agent_may_do_what_it_calls_in_s3_and_nothing_else() -> None:
    agent = policies()["agent"]
    its = {action for action in needed() if action.startswith("s3:")}
    assert {action for action in needed() if allows(agent, action)} == its
    assert {action for each in agent["Statement"] for action in listed(each["Action"])} == its


@pytest.mark.parametrize(
    ("action", "key", "allowed"),
    [
        ("s3:GetObject", "mail/orders/digits-7f3a.1.json", True),
        ("s3:PutObject", "mail/orders/digits-7f3a.1.json", False),
        ("s3:PutObject", "mail/reports/digits-7f3a.1/0.json", True),
        ("s3:GetObject", "jobs/digits-7f3a/spec.json", True),
        ("s3:PutObject", "jobs/digits-7f3a/spec.json", False),
        ("s3:GetObject", "jobs/digits-7f3a/workdir/0a1b.tar.gz", True),
        ("s3:PutObject", "jobs/digits-7f3a/workdir/0a1b.tar.gz", False),
        ("s3:PutObject", "jobs/digits-7f3a/checkpoints/HEAD.json", True),
        ("s3:PutObject", "jobs/digits-7f3a/checkpoints/00000250-1-n/weights", True),
        ("s3:DeleteObject", "jobs/digits-7f3a/checkpoints/00000250-1-n/weights", True),
        ("s3:DeleteObject", "jobs/digits-7f3a/checkpoints/00000250-1-n/MANIFEST.json", True),
        ("s3:DeleteObject", "jobs/digits-7f3a/checkpoints/HEAD.json", False),
        ("s3:DeleteObject", "jobs/digits-7f3a/outputs/1/MANIFEST.json", False),
        ("s3:DeleteObject", "jobs/digits-7f3a/spec.json", False),
        ("s3:DeleteObject", "mail/orders/digits-7f3a.1.json", False),
        ("s3:PutObject", "jobs/digits-7f3a/outputs/1/MANIFEST.json", True),
        ("s3:GetObject", "jobs/digits-7f3a/logs/digits-7f3a.1/0/000001.gz", True),
        ("s3:PutObject", "jobs/digits-7f3a/logs/digits-7f3a.1/0/000001.gz", True),
        ("s3:GetObject", "jobs/digits-7f3a/secrets/WANDB_API_KEY", True),
        ("s3:PutObject", "jobs/digits-7f3a/secrets/WANDB_API_KEY", False),
        ("s3:PutObject", "agent/0a1b.tar.gz", False),
        ("s3:GetObject", "datasets/digits/train.npz", True),
        ("s3:PutObject", "datasets/digits/train.npz", False),
    ],
)
def test_an_agents_keys(action: str, key: str, allowed: bool) -> None:
    assert allows(policies()["agent"], action, f"{HOME}/{key}") is allowed


def test_what_costs_money_is_bound_to_the_tag_of_an_installation() -> None:
    tagged = [
        each
        for each in policies()["control"]["Statement"]
        if "spotrunner:installation" in json.dumps(each.get("Condition", {}))
    ]
    bound = {(action, kind) for each in tagged for action, kind in actions_and_kinds(each)}
    assert bound == {
        ("ec2:RunInstances", "instance"),
        ("ec2:RunInstances", "volume"),
        ("ec2:RunInstances", "network-interface"),
        ("ec2:RunInstances", "spot-instances-request"),
        ("ec2:TerminateInstances", "instance"),
        ("ec2:CancelSpotInstanceRequests", "spot-instances-request"),
    }


def actions_and_kinds(statement: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for action in listed(statement["Action"]):
        for resource in listed(statement["Resource"]):
            yield action, resource.rpartition(":")[2].partition("/")[0]
