"""What an agent does with a job's secrets: it reads them in time, hands them to the trainer alone,
and fails with a sentence where they cannot be had."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spotrunner.agent.mask import Mask
from spotrunner.agent.secrets import JobSecrets, SecretsMissing, has_files
from spotrunner.core.secret_place import SecretPlace, object_key
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.ports import Misconfigured, NotAuthorized, NotFound, PortError, Throttled
from tests.agent.told import JOB
from tests.agent.world import Bucket

WANDB = SecretRef(name="WANDB_API_KEY", source="secretsmanager:team/wandb#key")
TOKEN = SecretRef(name="HF_TOKEN", source="ssm:/hf", form=SecretForm.FILE)
SHELL = SecretRef(name="DB_PASSWORD", source="object:DB_PASSWORD")
VALUES = {"team/wandb": "w-1234567", "/hf": "hf-\n1234567"}


class Kept:
    """Secrets by the names that AWS has for them; what is an error is raised."""

    def __init__(self) -> None:
        self.values: dict[str, str | PortError] = dict(VALUES)
        self.asked: list[str] = []

    def read(self, place: SecretPlace) -> str:
        self.asked.append(place.name)
        value = self.values[place.name]
        if isinstance(value, PortError):
            raise value
        return value


@pytest.fixture
def bucket() -> Bucket:
    bucket = Bucket()
    bucket.objects.put_encrypted(object_key(JOB, "DB_PASSWORD"), b"pass-word")
    return bucket


@pytest.fixture
def kept() -> Kept:
    return Kept()


class Agent:
    """One life of it on a machine."""

    def __init__(self, kept: Kept, bucket: Bucket, folder: Path) -> None:
        self.mask = Mask()
        self.redacted: set[str] = set()
        self.folder = folder / "run" / "secrets"
        self.secrets = JobSecrets(
            secrets=kept,
            objects=bucket.objects,
            job_id=JOB,
            folder=self.folder,
            mask=self.mask,
            redact=self.redacted.update,
        )

    def lay(self) -> None:
        self.secrets.lay(os.getuid(), os.getgid())

    def modes(self) -> dict[str, int]:
        paths = [self.folder, *self.folder.iterdir()]
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}


@pytest.fixture
def agent(kept: Kept, bucket: Bucket, tmp_path: Path) -> Agent:
    return Agent(kept, bucket, tmp_path)


def test_the_trainer_gets_variables_and_files(agent: Agent) -> None:
    agent.secrets.fetch([WANDB, TOKEN, SHELL])
    assert agent.secrets.environment == {"WANDB_API_KEY": "w-1234567", "DB_PASSWORD": "pass-word"}
    assert not agent.folder.exists(), "files lie there only as long as a trainer is"
    agent.lay()
    assert (agent.folder / "HF_TOKEN").read_text() == "hf-\n1234567"
    assert agent.modes() == {"secrets": 0o500, "HF_TOKEN": 0o400}


def test_a_trainer_that_is_started_again_finds_them_again(agent: Agent) -> None:
    agent.secrets.fetch([TOKEN])
    agent.lay()
    agent.lay()
    assert agent.modes() == {"secrets": 0o500, "HF_TOKEN": 0o400}


def test_at_the_end_nothing_of_them_lies_there(agent: Agent) -> None:
    agent.secrets.fetch([WANDB, TOKEN])
    agent.lay()
    agent.secrets.remove()
    agent.secrets.remove()
    assert list(agent.folder.parent.iterdir()) == []


def test_no_log_shows_them_from_then_on(agent: Agent, kept: Kept) -> None:
    kept.values["/hf"] = "short"
    agent.secrets.fetch([WANDB, TOKEN, SHELL])
    assert agent.mask(b"w-1234567 short pass-word") == b"*** short ***"
    assert agent.redacted == {"w-1234567", "pass-word"}


def test_a_job_without_any_asks_nobody_and_writes_nothing(agent: Agent, kept: Kept) -> None:
    agent.secrets.fetch([])
    agent.lay()
    assert (kept.asked, agent.secrets.environment) == ([], {})
    assert not agent.folder.parent.exists()
    assert not has_files([WANDB, SHELL])
    assert has_files([WANDB, TOKEN])


def test_an_agent_started_again_asks_nobody(agent: Agent, kept: Kept, bucket: Bucket) -> None:
    agent.secrets.fetch([WANDB, TOKEN])
    kept.values.update(dict.fromkeys(VALUES, NotFound("deleted meanwhile")))
    again = Agent(kept, bucket, agent.folder.parent.parent)
    again.secrets.fetch([WANDB, TOKEN])
    assert again.secrets.environment == agent.secrets.environment
    assert again.mask(b"w-1234567") == b"***"
    copy = agent.folder.with_suffix(".json")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_an_agent_started_again_masks_before_it_has_fetched(
    agent: Agent, kept: Kept, bucket: Bucket
) -> None:
    """It may have to ship the log of a trainer that it finds, and S3 does not tell the spec."""
    agent.secrets.fetch([WANDB, TOKEN])
    again = Agent(kept, bucket, agent.folder.parent.parent)
    again.secrets.recall()
    assert again.mask(b"w-1234567") == b"***"
    assert "w-1234567" in again.redacted
    assert again.secrets.environment == {}


def test_a_job_without_secrets_has_nothing_to_wait_for_once_that_is_known(agent: Agent) -> None:
    agent.secrets.recall()
    assert not agent.secrets.are_known
    agent.secrets.fetch([])
    assert agent.secrets.are_known


def test_all_that_is_wrong_is_told_at_once(agent: Agent, kept: Kept, bucket: Bucket) -> None:
    kept.values["team/wandb"] = NotAuthorized("allow secretsmanager:GetSecretValue on x")
    kept.values["/hf"] = NotFound("the parameter /hf in us-east-1 does not exist there")
    bucket.objects.delete([object_key(JOB, "DB_PASSWORD")])
    with pytest.raises(SecretsMissing) as told:
        agent.secrets.fetch([WANDB, TOKEN, SHELL])
    assert str(told.value) == (
        "the secret WANDB_API_KEY: allow secretsmanager:GetSecretValue on x; the secret HF_TOKEN:"
        " the parameter /hf in us-east-1 does not exist there; the secret DB_PASSWORD: what was"
        " taken for it from the shell is no longer in the bucket: submit the job again"
    )


def test_a_key_of_kms_that_the_role_may_not_use(agent: Agent, bucket: Bucket) -> None:
    bucket.objects.fail_next("get", NotAuthorized("kms:Decrypt denied"))
    with pytest.raises(SecretsMissing) as told:
        agent.secrets.fetch([SHELL])
    assert str(told.value) == (
        f"the secret DB_PASSWORD: allow s3:GetObject on jobs/{JOB}/secrets/DB_PASSWORD, and"
        " kms:Decrypt on the key that the daemon's setting kms_key names, in the policy of the"
        " instances' role (kms:Decrypt denied)"
    )


def test_what_no_variable_can_carry_may_be_a_file(agent: Agent, kept: Kept) -> None:
    kept.values.update({"team/wandb": "a\0b", "/hf": "a\0b"})
    agent.secrets.fetch([TOKEN])
    with pytest.raises(SecretsMissing, match="it has a NUL character"):
        agent.secrets.fetch([WANDB])


@pytest.mark.parametrize("answer", [Throttled("slow down"), Misconfigured("it is binary")])
def test_only_what_may_change_is_tried_again(agent: Agent, kept: Kept, answer: PortError) -> None:
    kept.values["team/wandb"] = answer
    wanted = Throttled if isinstance(answer, Throttled) else SecretsMissing
    with pytest.raises(wanted):
        agent.secrets.fetch([WANDB])
    kept.values["team/wandb"] = "w-1234567"
    agent.secrets.fetch([WANDB])
    assert agent.secrets.environment == {"WANDB_API_KEY": "w-1234567"}
