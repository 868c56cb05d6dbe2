from __future__ import annotations

import pytest

from spotrunner.core.model import JobSpec
from spotrunner.core.speed import prior, rates, speeds
from tests.build import JOB, a_report, a_spec, an_attempt, an_offer

TYPES = ("g4dn.xlarge", "g5.xlarge", "p3.2xlarge")
T4, A10G, V100 = 320, 600, 900


def spec(**told: float) -> JobSpec:
    pairs = tuple((name.replace("_", "."), value) for name, value in told.items())
    return a_spec(instance_types=TYPES, speeds=pairs)


def test_the_prior_is_memory_bandwidth_times_gpus() -> None:
    assert prior("g4dn.xlarge") == T4
    assert prior("g4dn.12xlarge") == 4 * T4
    assert speeds(spec(), {}) == dict(zip(TYPES, (T4, A10G, V100), strict=True))


def test_the_users_word_wins_and_scales_what_it_leaves_out() -> None:
    found = speeds(spec(g4dn_xlarge=1.0, g5_xlarge=3.0), {})
    assert found["g5.xlarge"] == 3.0
    assert found["p3.2xlarge"] == pytest.approx(V100 / T4)


def test_measured_steps_win_over_everything() -> None:
    found = speeds(spec(g4dn_xlarge=1.0, g5_xlarge=3.0), {"g4dn.xlarge": 10.0})
    assert found["g4dn.xlarge"] == 10.0
    assert found["g5.xlarge"] == pytest.approx(30.0)


def test_what_is_not_measured_follows_the_nearest_that_is() -> None:
    found = speeds(spec(), {"g4dn.xlarge": 10.0, "p3.2xlarge": 90.0})
    assert found["g5.xlarge"] == pytest.approx(90.0 * A10G / V100)


def test_a_type_that_the_job_no_longer_names_still_tells_of_it() -> None:
    found = speeds(a_spec(instance_types=("g5.xlarge",)), {"g4dn.xlarge": 10.0})
    assert found == {"g5.xlarge": pytest.approx(10.0 * A10G / T4)}


def test_rates_are_the_last_that_each_type_reported() -> None:
    attempts = [
        an_attempt(1, steps_per_s=5.0),
        an_attempt(2, steps_per_s=6.0),
        an_attempt(3, offer=an_offer(instance_type="g5.xlarge"), steps_per_s=11.0),
        an_attempt(4, offer=an_offer(instance_type="p3.2xlarge")),
    ]
    reports = {f"{JOB}.3": a_report(f"{JOB}.3", steps_per_s=12.0)}
    assert rates(attempts, reports) == {"g4dn.xlarge": 6.0, "g5.xlarge": 12.0}


@pytest.mark.parametrize(("at_s", "believed"), [(150, False), (239, False), (240, True)])
def test_the_first_two_minutes_are_no_pace(at_s: float, believed: bool) -> None:
    """They compile: measured so early, a night's work looks like a week's."""
    report = a_report(f"{JOB}.1", at_s, first_step_s=120, steps_per_s=0.2)
    attempt = an_attempt(1)
    assert rates([attempt], {attempt.id: report}) == ({"g4dn.xlarge": 0.2} if believed else {})
    earlier = an_attempt(1, steps_per_s=9.0)
    assert rates([earlier], {attempt.id: report})["g4dn.xlarge"] == (0.2 if believed else 9.0)
