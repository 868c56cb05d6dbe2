from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.ids import TOKEN_LENGTH, attempt_id, client_token, generation_of, job_of

names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)


@given(job=names, generation=st.integers(1, 10**6))
def test_an_attempts_id_carries_its_job_and_generation(job: str, generation: int) -> None:
    attempt = attempt_id(job, generation)
    assert (job_of(attempt), generation_of(attempt)) == (job, generation)


@pytest.mark.parametrize("name", ["", "digits", "digits.", "digits.x", "digits.-1", "digits.²"])
def test_a_name_that_is_no_attempts_has_no_generation(name: str) -> None:
    assert generation_of(name) is None


def test_two_attempts_and_two_installations_never_share_a_token() -> None:
    tokens = {client_token(inst, f"job.{n}") for inst in ("one", "two") for n in (1, 2)}
    assert len(tokens) == 4


def test_a_token_that_ec2_would_cut_is_a_bug() -> None:
    assert len(client_token("i" * 10, "a" * 53)) == TOKEN_LENGTH
    with pytest.raises(AssertionError, match="longer than EC2 allows"):
        client_token("i" * 10, "a" * 54)
