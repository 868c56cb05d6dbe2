from __future__ import annotations

import dataclasses
import inspect

import pytest

from spotrunner.core import model
from spotrunner.core.model import InstanceState, Limits
from tests.build import a_head, a_pool, an_instance

VALUES = [
    value
    for _, value in inspect.getmembers(model, dataclasses.is_dataclass)
    if isinstance(value, type) and value.__module__ == model.__name__
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_values_are_frozen_and_built_by_keyword(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(value))


def test_a_pool_names_its_place() -> None:
    assert str(a_pool("eu-west-1b", "g5.xlarge")) == "eu-west-1b/g5.xlarge"


def test_heads_step_is_what_a_reader_would_resume_from() -> None:
    assert a_head(None).step == 0
    assert a_head(70).step == 70


@pytest.mark.parametrize("state", list(InstanceState))
def test_an_instance_is_billed_until_it_shuts_down(state: InstanceState) -> None:
    billed = state in (InstanceState.PENDING, InstanceState.RUNNING)
    assert an_instance(state=state).billed is billed


def test_the_limits_fit_together() -> None:
    limits = Limits()
    assert all(value > 0 for value in dataclasses.astuple(limits))
    # A boot fits into the smallest step, and what is asked for at half time is never smaller.
    assert limits.boot_allowance_s <= limits.step_s / 2
    # A healthy agent (a report a minute) may miss one and still be paid.
    assert limits.fresh_report_s >= 2 * 60
    assert limits.fresh_report_s < limits.silent_s
    # What outlives its paid time is terminated inside what was reserved for it.
    assert limits.unpaid_grace_s < limits.boot_slack_s
    # A launch is given up only when it is no longer sent, and EC2 still lists an early end of it.
    assert limits.intent_s < limits.lost_s < limits.listed_s
    # EC2 rounds the announced time by up to a minute.
    assert limits.first_hour_notice_s == limits.first_hour_s + 60
