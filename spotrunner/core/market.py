"""Which offers a job may take now, and why the others are left out."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spotrunner.core.model import JobSpec, Limits, Market, Offer, Pool, Quote, Refusal, Refused
from spotrunner.core.money import first_paid_s


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An offer, and what keeps the job from it now (None: it may be taken)."""

    offer: Offer
    left_out: str | None = None


def candidates(
    spec: JobSpec,
    offers: Iterable[Offer],
    refusals: Sequence[Refusal],
    now: dt.datetime,
    limits: Limits,
) -> tuple[Candidate, ...]:
    """Every offer of the job's types and regions, cheapest first, with the reason of each that
    cannot be taken."""
    wanted = [
        offer
        for offer in offers
        if offer.pool.region in spec.regions and offer.pool.instance_type in spec.instance_types
    ]
    hinted = _hinted_zones(refusals, now, limits)
    wanted.sort(
        key=lambda offer: (
            offer.price_usd_micros_hour,
            # On-demand costs the same in all zones of a region: EC2's own word decides.
            (offer.pool.zone, offer.pool.instance_type) not in hinted,
            offer.pool,
            offer.market.value,
        )
    )
    return tuple(
        Candidate(offer=offer, left_out=_left_out(spec, offer, refusals, now, limits))
        for offer in wanted
    )


def _hinted_zones(
    refusals: Sequence[Refusal], now: dt.datetime, limits: Limits
) -> frozenset[tuple[str, str]]:
    """(zone, type) that EC2 named as having capacity when it lately refused another zone."""
    return frozenset(
        (zone, refusal.pool.instance_type)
        for refusal in refusals
        if now < refusal.at + dt.timedelta(seconds=cooldown_s(refusal.meaning, limits))
        for zone in refusal.hint_zones
    )


def _left_out(
    spec: JobSpec, offer: Offer, refusals: Sequence[Refusal], now: dt.datetime, limits: Limits
) -> str | None:
    if offer.market is not spec.market:
        return f"the job asks for {spec.market.value}"
    for refusal in reversed(refusals):
        until = refusal.at + dt.timedelta(seconds=cooldown_s(refusal.meaning, limits))
        if now < until and _concerns(refusal, offer):
            return (
                f"cooling down until {until:%H:%M:%S}: {refusal.message or refusal.meaning.value}"
            )
    return None


def within_budget(candidate: Candidate, left_usd_micros: int | None, limits: Limits) -> Candidate:
    """Left out when the rest of the budget does not pay a boot at this offer's dearest price."""
    pays_s = first_paid_s(left_usd_micros, candidate.offer, limits)
    if candidate.left_out is not None or pays_s >= limits.boot_allowance_s:
        return candidate
    return dataclasses.replace(candidate, left_out="the budget does not pay a first step of it")


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


def _concerns(refusal: Refusal, offer: Offer) -> bool:
    """Capacity, price and offering are a pool's; quota is a region's, market's and family's;
    set-up is a region's and type's (an image that is missing for one type leaves the others);
    permissions are a region's."""
    if refusal.meaning in (Refused.CAPACITY, Refused.PRICE, Refused.OFFERING):
        return refusal.pool == offer.pool and refusal.market is offer.market
    same_region = refusal.pool.region == offer.pool.region
    if refusal.meaning is Refused.QUOTA:
        same_family = quota_family(refusal.pool) == quota_family(offer.pool)
        return same_region and same_family and refusal.market is offer.market
    if refusal.meaning is Refused.CONFIG:
        return same_region and refusal.pool.instance_type == offer.pool.instance_type
    return same_region


def quota_family(pool: Pool) -> str:
    """EC2 counts vCPU quotas by the first letter of the type: G and VT, P, and so on."""
    return pool.instance_type[0]


def price_at(quotes: Mapping[Pool, Sequence[Quote]], pool: Pool, at: dt.datetime) -> int | None:
    """The spot price in force at a time, micro-dollars an hour; None before the first quote."""
    price = None
    for quote in quotes.get(pool, ()):
        if quote.at > at:
            break
        price = quote.price_usd_micros_hour
    return price


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
