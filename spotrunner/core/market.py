"""Which offers a job may take now, why the others are left out, and what each is worth."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from spotrunner.core.charges import extras_usd_micros_hour, transfer_usd_micros
from spotrunner.core.hazard import Hazards, run_hours
from spotrunner.core.model import JobSpec, Limits, Market, Offer, Pool, Quote, Refusal, Refused
from spotrunner.core.money import HOUR_S, price_at, start_late_s, start_s, usd
from spotrunner.core.purse import ROUNDED_USD_MICROS, Payment, Purse
from spotrunner.core.sight import Sight
from spotrunner.core.situation import Candidate

OVER_BUDGET = "the budget does not pay a first step of it"
TOO_LONG_ON_DEMAND = "the budget does not pay the work that is left on it: spot goes further"

# What a refusal is about: a pool, a quota, a type, a region.
Concern = tuple[object, ...]


def candidates(
    spec: JobSpec,
    offers: Iterable[Offer],
    refusals: Sequence[Refusal],
    now: dt.datetime,
    limits: Limits,
    resumes: bool = False,
) -> tuple[Candidate, ...]:
    """Every offer of the job's types and regions, cheapest first, with the reason of each that
    cannot be taken. A job that wants no spot has no spot offers. One that the price has paused
    `resumes` at its lower limit only."""
    wanted = [
        offer
        for offer in offers
        if offer.pool.region in spec.regions
        and offer.pool.instance_type in spec.instance_types
        and (spec.market is Market.SPOT or offer.market is Market.ON_DEMAND)
    ]
    refusals = cooling(refusals, now, limits)
    hinted = _hinted_zones(refusals)
    wanted.sort(
        key=lambda offer: (
            offer.price_usd_micros_hour,
            # On-demand costs the same in all zones of a region: EC2's own word decides.
            (offer.pool.zone, offer.pool.instance_type) not in hinted,
            offer.pool,
            offer.market.value,
        )
    )
    latest = {_concern(refusal): refusal for refusal in refusals}
    found = [
        Candidate(offer=offer, left_out=_left_out(spec, offer, latest, limits, resumes))
        for offer in wanted
    ]
    return _elsewhere_first(found, _short_regions(refusals))


def _short_regions(cooling: Sequence[Refusal]) -> frozenset[tuple[str, Market]]:
    """Regions of which two zones lately had no capacity: their zones run dry together."""
    zones: dict[tuple[str, Market], set[str]] = {}
    for refusal in cooling:
        if refusal.meaning is Refused.CAPACITY:
            zones.setdefault((refusal.pool.region, refusal.market), set()).add(refusal.pool.zone)
    return frozenset(key for key, names in zones.items() if len(names) >= 2)


def _elsewhere_first(
    found: Sequence[Candidate], short: frozenset[tuple[str, Market]]
) -> tuple[Candidate, ...]:
    """Leave a short region out while another one has an offer of the same market to try."""

    def is_short(each: Candidate) -> bool:
        return (each.offer.pool.region, each.offer.market) in short

    others = {each.offer.market for each in found if each.left_out is None and not is_short(each)}
    return tuple(
        dataclasses.replace(
            each,
            left_out=f"two zones of {each.offer.pool.region} had no capacity just now: another"
            " region is tried first",
        )
        if each.left_out is None and is_short(each) and each.offer.market in others
        else each
        for each in found
    )


def _hinted_zones(cooling: Sequence[Refusal]) -> frozenset[tuple[str, str]]:
    """(zone, type) that EC2 named as having capacity when it lately refused another zone."""
    return frozenset(
        (zone, refusal.pool.instance_type) for refusal in cooling for zone in refusal.hint_zones
    )


def _left_out(
    spec: JobSpec,
    offer: Offer,
    latest: Mapping[Concern, Refusal],
    limits: Limits,
    resumes: bool,
) -> str | None:
    if is_too_dear(spec, offer, resumes):
        return above_limit(spec, offer, resumes)
    bid = spec.max_price_usd_micros
    if bid is not None and offer.market is Market.SPOT and offer.price_usd_micros_hour > bid:
        return f"its {usd(offer.price_usd_micros_hour)}/h are above max_price, {usd(bid)}/h"
    found = [latest[concern] for concern in _concerns(offer) if concern in latest]
    if not found:
        return None
    refusal = max(found, key=lambda it: it.at)
    until = refusal.at + dt.timedelta(seconds=cooldown_s(refusal.meaning, limits))
    return f"cooling down until {until:%H:%M:%S}: {refusal.message or refusal.meaning.value}"


def is_too_dear(spec: JobSpec, offer: Offer, resumes: bool = False) -> bool:
    """Above the price that the job would rather wait at."""
    limit = spec.price_limit
    if limit is None:
        return False
    most = limit.resume_at(offer) if resumes else limit.pause_at(offer)
    return offer.price_usd_micros_hour > most


def above_limit(spec: JobSpec, offer: Offer, resumes: bool = False) -> str:
    assert spec.price_limit is not None
    name = "resume_below" if resumes else "pause_above"
    most = spec.price_limit.resume_at(offer) if resumes else spec.price_limit.pause_at(offer)
    return f"its {usd(offer.price_usd_micros_hour)}/h are above {name}, {usd(most)}/h"


def rate_usd_micros_hour(spec: JobSpec, offer: Offer) -> int:
    """What an hour on this offer comes to at most, with the disk and the address."""
    return offer.dearest_usd_micros_hour + extras_usd_micros_hour(offer.pool.region, spec.disk_gib)


def first_step_s(
    purse: Purse, spec: JobSpec, offer: Offer, now: dt.datetime, step_s: int, limits: Limits
) -> int:
    """The first paid step of a launch: a full one, or what the caps pay of it beside bringing the
    data. The late start of its timer is paid on top."""
    wanted_s = step_s + limits.boot_slack_s
    return purse.pays_s(start_payment(spec, offer, now, wanted_s, limits)) - limits.boot_slack_s


def start_payment(
    spec: JobSpec, offer: Offer, now: dt.datetime, wanted_s: int, limits: Limits
) -> Payment:
    """Of a launch now, and of bringing its data."""
    early = now - dt.timedelta(seconds=limits.clock_s)
    return Payment(
        begin=early,
        wanted_s=wanted_s,
        usd_micros_hour=rate_usd_micros_hour(spec, offer),
        launched_at=early,
        moved_usd_micros=move_usd_micros(spec, offer.pool.region)
        + far_usd_micros(spec, offer.pool.region, limits),
        late_s=start_late_s(limits),
    )


def start_usd_micros(spec: JobSpec, offer: Offer, limits: Limits) -> int:
    """What a cap has to leave for a launch on this offer: a boot, and bringing what it needs."""
    region = offer.pool.region
    boot = -(-rate_usd_micros_hour(spec, offer) * start_s(limits) // HOUR_S)
    moved = move_usd_micros(spec, region) + far_usd_micros(spec, region, limits)
    return boot + moved + ROUNDED_USD_MICROS


def within_budget(
    candidate: Candidate,
    spec: JobSpec,
    purse: Purse,
    now: dt.datetime,
    limits: Limits,
    least_s: int,
) -> Candidate:
    """Left out when the caps do not pay `least_s` seconds at this offer's dearest price."""
    if candidate.left_out is not None or not purse.balances:
        return candidate
    pays_s = first_step_s(purse, spec, candidate.offer, now, max(limits.step_s, least_s), limits)
    if pays_s >= least_s:
        return candidate
    return dataclasses.replace(candidate, left_out=OVER_BUDGET)


# -- what an offer is worth --------------------------------------------------------------------


def move_usd_micros(spec: JobSpec, region: str) -> int:
    """What a launch in `region` pays to bring the job's data there. Data whose size or region is
    not known counts as near."""
    return sum(
        transfer_usd_micros(data.bytes or 0, data.region)
        for data in spec.data
        if data.region not in (None, region)
    )


def far_usd_micros(spec: JobSpec, region: str, limits: Limits) -> int:
    """What a launch reserves for checkpoints between `region` and the job's home: a restore, two
    saves and the last one, as large as they have been."""
    if spec.home_region in ("", region):
        return 0
    lumps = max(limits.far_bytes, 4 * spec.lump_bytes)
    return transfer_usd_micros(lumps, spec.home_region, region)


def expected(
    offer: Offer,
    sight: Sight,
    hazards: Hazards,
    *,
    speed: float,
    work_left_s: float | None,
    changeover_s: float,
    catch_up_usd_micros_hour: float = 0.0,
    move_usd_micros: int = 0,
    runs: bool = False,
) -> float:
    """Micro-dollars that an hour of useful work is expected to cost on this offer.

    A launch pays `changeover_s` before it works, and is due again whenever the pool is lost: spread
    over the run that is to be expected. What is lost of the time is caught up at
    `catch_up_usd_micros_hour`. The first launch is paid already where the job `runs` there.
    """
    if offer.market is Market.SPOT:
        run_h = run_hours(hazards, sight.run_age_s, sight.share, horizon_h(work_left_s))
    else:
        run_h = horizon_h(work_left_s)
    price = offer.price_usd_micros_hour
    own = 0.0 if runs else changeover_s / HOUR_S * price + move_usd_micros
    lost = changeover_s / HOUR_S * catch_up_usd_micros_hour
    return (price + (own + lost) / run_h) / speed


def horizon_h(work_left_s: float | None) -> float:
    """Over how many hours a launch is spread at most. Unknown work is taken for a night's; past
    half a day a job meets other pools anyway."""
    return 8.0 if work_left_s is None else min(12.0, max(0.05, work_left_s / HOUR_S))


# -- cool-downs --------------------------------------------------------------------------------


def cooldown_s(meaning: Refused, limits: Limits) -> int:
    """How long a refusal keeps us away. What only a person can mend waits long: asking on would
    neither help nor tell them."""
    return {
        Refused.CAPACITY: limits.capacity_cooldown_s,
        Refused.PRICE: limits.price_cooldown_s,
        Refused.QUOTA: limits.quota_cooldown_s,
        Refused.OFFERING: limits.offering_cooldown_s,
        Refused.PERMISSION: limits.config_cooldown_s,
        Refused.CONFIG: limits.config_cooldown_s,
    }[meaning]


def cooling(refusals: Iterable[Refusal], now: dt.datetime, limits: Limits) -> tuple[Refusal, ...]:
    """Those that still keep us away from something, in their order."""
    ends = {meaning: dt.timedelta(seconds=cooldown_s(meaning, limits)) for meaning in Refused}
    return tuple(refusal for refusal in refusals if now < refusal.at + ends[refusal.meaning])


def _concern(refusal: Refusal) -> Concern:
    """Capacity, price and offering are a pool's; quota is a region's, market's and family's;
    set-up is a region's and type's (an image that is missing for one type leaves the others);
    permissions are a region's."""
    pool = refusal.pool
    if refusal.meaning in (Refused.CAPACITY, Refused.PRICE, Refused.OFFERING):
        return (pool, refusal.market)
    if refusal.meaning is Refused.QUOTA:
        return (pool.region, quota_family(pool), refusal.market)
    if refusal.meaning is Refused.CONFIG:
        return (pool.region, pool.instance_type)
    return (pool.region,)


def _concerns(offer: Offer) -> tuple[Concern, ...]:
    """All that a refusal may concern of this offer."""
    pool, market = offer.pool, offer.market
    return (
        (pool, market),
        (pool.region, quota_family(pool), market),
        (pool.region, pool.instance_type),
        (pool.region,),
    )


def quota_family(pool: Pool) -> str:
    """EC2 counts vCPU quotas by the first letter of the type: G and VT, P, and so on."""
    return pool.instance_type[0]


def spot_and_on_demand(
    pools: Iterable[Pool],
    quotes: Mapping[Pool, Sequence[Quote]],
    on_demand: Mapping[tuple[str, str], int],
    now: dt.datetime,
) -> tuple[Offer, ...]:
    """The offers of these pools: one a market, where its price is known. `on_demand` is by
    (region, type); without it a pool has no offer at all, since nothing bounds its spot price."""
    offers = []
    for pool in pools:
        dearest = on_demand.get((pool.region, pool.instance_type))
        if dearest is None:
            continue
        spot = price_at(quotes, pool, now)
        for market, price in ((Market.SPOT, spot), (Market.ON_DEMAND, dearest)):
            if price is not None:
                offers.append(
                    Offer(
                        pool=pool,
                        market=market,
                        price_usd_micros_hour=price,
                        dearest_usd_micros_hour=max(dearest, price),
                    )
                )
    return tuple(offers)
