from __future__ import annotations

import dataclasses
import math
import random

import pytest

from spotrunner.core.fit import PRIOR_EVENTS, Evidence, fit
from spotrunner.core.hazard import AGES_S, MEASURED, Hazards, bucket
from spotrunner.core.model import Pool
from spotrunner.core.sight import Spell
from tests.build import a_pool, at

FLAT = dataclasses.replace(MEASURED, lost_weight=0.0, regained_weight=0.0)


def up(begin_s: float, end_s: float, *, taken: bool = False) -> Spell:
    return Spell(begin=at(begin_s), end=at(end_s), up=True, taken=taken)


def down(at_s: float) -> Spell:
    return Spell(begin=at(at_s), end=at(at_s), up=False)


def seen(*spells: Spell, prior: Hazards = FLAT) -> dict[tuple[str, int], Evidence]:
    """The evidence by (what, index of the bucket), without the buckets that nothing is in."""
    found = fit({a_pool(): spells}, prior).evidence
    return {(it.what, AGES_S.index(it.from_s)): it for it in found if it.hours > 0 or it.events > 0}


# -- what counts -------------------------------------------------------------------------------


def test_nothing_seen_is_the_prior_exactly() -> None:
    assert fit({}).hazards == MEASURED
    assert fit({a_pool(): []}).hazards == MEASURED
    assert fit({a_pool(): [down(0)]}).hazards == MEASURED


def test_a_run_is_at_risk_in_each_bucket_it_passes_and_is_lost_in_the_last() -> None:
    counted = seen(up(0, 1000, taken=True))
    hours = {key: it.hours * 3600 for key, it in counted.items()}
    assert hours == pytest.approx({("lost", n): 300 if n < 3 else 100 for n in range(4)})
    assert {key: it.events for key, it in counted.items() if it.events} == {("lost", 3): 1}


def test_a_run_that_we_ended_ourselves_is_at_risk_and_not_lost() -> None:
    counted = seen(up(0, 300))
    assert counted[("lost", 0)].events == 0
    assert counted[("lost", 0)].new_an_hour < counted[("lost", 0)].old_an_hour


def test_two_of_ours_in_one_pool_show_the_same_time_once() -> None:
    counted = seen(up(0, 300), up(100, 280))
    assert sum(it.hours for it in counted.values()) * 3600 == pytest.approx(300)


def test_a_run_that_is_met_again_is_as_old_as_it_was() -> None:
    """Nothing says that it was away in between, as core/sight sees it; the gap is nobody's time."""
    counted = seen(up(0, 300), up(600, 900))
    assert set(counted) == {("lost", 0), ("lost", 2)}


@pytest.mark.parametrize(
    ("gap_s", "events", "seconds"),
    [
        (1200, 1, 600),  # it came back half way, on average
        (3600, 1, 1800),
        (3601, 0, 0),  # too long to say when
    ],
)
def test_an_outage_between_a_loss_and_a_launch(gap_s: float, events: int, seconds: float) -> None:
    counted = seen(up(0, 100, taken=True), up(100 + gap_s, 200 + gap_s))
    back = [it for it in counted.values() if it.what == "regained"]
    assert sum(it.events for it in back) == events
    assert sum(it.hours for it in back) * 3600 == pytest.approx(seconds)


def test_refusals_show_that_the_outage_goes_on() -> None:
    counted = seen(up(0, 100, taken=True), down(400), down(700), up(900, 1000))
    back = {key[1]: it for key, it in counted.items() if key[0] == "regained"}
    # 600 s down between the refusals, and half of the last 200.
    assert sum(it.hours for it in back.values()) * 3600 == pytest.approx(700)
    assert [index for index, it in back.items() if it.events] == [bucket(700)]


def test_the_rate_is_drawn_to_the_prior_by_so_many_events() -> None:
    spells = [up(n * 1000, n * 1000 + 200, taken=True) for n in range(6)]
    counted = seen(*spells)[("lost", 0)]
    old = FLAT.lost_an_hour[0]
    assert counted.events == 6
    assert counted.hours == pytest.approx(6 * 200 / 3600)
    wanted = (PRIOR_EVENTS + 6) / (PRIOR_EVENTS / old + 6 * 200 / 3600)
    assert counted.new_an_hour == pytest.approx(wanted)


def test_what_the_share_explains_the_ages_do_not_learn() -> None:
    """A pool that was down most of the day is expected to be lost: the same loss says less."""
    scarce = [down(n * 600) for n in range(140)]
    lost = up(140 * 600, 140 * 600 + 200, taken=True)
    rate = {
        name: fit({a_pool(): spells}).hazards.lost_an_hour[0]
        for name, spells in {"scarce": [*scarce, lost], "plenty": [lost]}.items()
    }
    assert rate["scarce"] < rate["plenty"]


def test_a_prior_of_no_weight_is_refused() -> None:
    with pytest.raises(AssertionError, match="without a prior"):
        fit({}, prior_events=0)


# -- does it find what is there? ---------------------------------------------------------------

TRUE = Hazards(
    lost_an_hour=(4.0, 4.0, 4.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.2),
    regained_an_hour=(1.0, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0),
    lost_weight=0.0,
    regained_weight=0.0,
)
PROBE_S = 180.0


def drawn(random: random.Random, rates: tuple[float, ...]) -> float:
    """Seconds until an event, bucket by bucket."""
    for index, from_s in enumerate(AGES_S):
        wait_s = -math.log(1 - random.random()) / rates[index] * 3600
        if index + 1 == len(AGES_S) or from_s + wait_s < AGES_S[index + 1]:
            return from_s + wait_s
    raise AssertionError("the last bucket is open")


def life_of_a_pool(seed: int, runs: int) -> list[Spell]:
    """We run whenever it is up, and ask every three minutes while it is down."""
    dice, now_s, found = random.Random(seed), 0.0, []
    for _ in range(runs):
        end_s = now_s + drawn(dice, TRUE.lost_an_hour)
        found.append(up(now_s, end_s, taken=True))
        back_s = end_s + drawn(dice, TRUE.regained_an_hour)
        asks = math.ceil((back_s - end_s) / PROBE_S)
        found += [down(end_s + n * PROBE_S) for n in range(1, asks)]
        now_s = end_s + asks * PROBE_S
    return found


def test_known_hazards_are_found_again() -> None:
    pools = {Pool(region="r", zone=f"z{n}", instance_type="g"): n for n in range(4)}
    life = {pool: life_of_a_pool(seed, 150) for pool, seed in pools.items()}
    found = fit(life, FLAT)
    for evidence in found.evidence:
        if evidence.events < 40:
            continue
        index = AGES_S.index(evidence.from_s)
        rates = TRUE.lost_an_hour if evidence.what == "lost" else TRUE.regained_an_hour
        # Three standard deviations of the count, and what three minutes of not looking blur.
        margin = 3 / math.sqrt(evidence.events) + 0.1
        assert evidence.new_an_hour == pytest.approx(rates[index], rel=margin), evidence
    assert sum(it.events for it in found.evidence if it.what == "lost") == 4 * 150
