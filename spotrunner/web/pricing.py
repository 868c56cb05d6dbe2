"""The keys of a job file that say at which price it would rather wait, and what that means where
prices are as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator

from spotrunner.core.amounts import as_written, to_usd_micros, usd_problem
from spotrunner.core.located import Problem
from spotrunner.core.market import is_too_dear
from spotrunner.core.model import JobSpec, Market, Offer, PriceLimit
from spotrunner.core.money import usd

DEFAULT_AFTER_S = 600
# A price that hangs around the limit must not start and stop the job.
DEFAULT_RESUME = Decimal("0.95")

_ALL = Decimal(100)


def _level(value: Any) -> str:
    """USD an hour, or percents; kept as text, so that one type holds both."""
    number = _number(as_written(value))
    if number is None or not number.is_finite():
        raise ValueError(
            'expected USD an hour, such as 0.60, or a share of the on-demand price, such as "40%",'
            f" found {value!r}"
        )
    if _is_share(str(value)):
        if not 0 < number <= _ALL:
            raise ValueError(f"expected more than 0% and at most 100%, found {value}")
    elif (problem := usd_problem(number)) is not None:
        raise ValueError(problem)
    return str(value).strip()


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        return _decimal(str(value))
    except InvalidOperation:
        return None


def _decimal(text: str) -> Decimal:
    return Decimal(text.strip().removesuffix("%"))


def _is_share(text: str) -> bool:
    return text.strip().endswith("%")


Level = Annotated[str, BeforeValidator(_level)]


def resume_problem(resume: str, pause: str | None) -> str | None:
    """Why a job cannot go on below `resume` after it was paused above `pause`."""
    if pause is None:
        return "it says when a job goes on that pause_above has stopped: add pause_above: 0.60"
    if _is_share(resume) != _is_share(pause):
        return f"expected the unit of pause_above, which is {pause}, found {resume}"
    if _decimal(resume) > _decimal(pause):
        return f"expected at most pause_above, which is {pause}, found {resume}"
    return None


def price_limit(pause: str | None, resume: str | None, after_s: int | None) -> PriceLimit | None:
    """Of checked values."""
    if pause is None:
        return None
    most = _decimal(pause)
    least = most * DEFAULT_RESUME if resume is None else _decimal(resume)
    after_s = DEFAULT_AFTER_S if after_s is None else after_s
    if _is_share(pause):
        return PriceLimit(
            after_s=after_s, pause_share=float(most / _ALL), resume_share=float(least / _ALL)
        )
    return PriceLimit(
        after_s=after_s,
        pause_usd_micros=to_usd_micros(most),
        resume_usd_micros=to_usd_micros(least),
    )


# -- against the prices now --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Limited:
    """What a price limit means for a job. `refuses`: with it the job would never run."""

    problems: tuple[Problem, ...] = ()
    refuses: bool = False


def limited(spec: JobSpec, offers: Sequence[Offer]) -> Limited:
    """Of a job with a limit."""
    on_demand = [offer for offer in offers if offer.market is Market.ON_DEMAND]
    if not on_demand:
        return Limited()
    if not any(is_too_dear(spec, offer) for offer in on_demand):
        return Limited(problems=(_without_effect(spec),))
    is_all_above = all(is_too_dear(spec, offer) for offer in on_demand)
    least = min(on_demand, key=lambda offer: offer.price_usd_micros_hour)
    if spec.market is Market.ON_DEMAND:
        return Limited(problems=(_never(least),), refuses=True) if is_all_above else Limited()
    found = []
    spot = [offer for offer in offers if offer.market is Market.SPOT]
    if is_all_above and spot and all(is_too_dear(spec, offer) for offer in spot):
        found.append(_waits(min(spot, key=lambda offer: offer.price_usd_micros_hour)))
    if is_all_above and spec.deadline_at is not None:
        found.append(_no_rescue(least))
    return Limited(problems=tuple(found))


def _without_effect(spec: JobSpec) -> Problem:
    why = "on-demand prices are never above it, and they do not change"
    if spec.market is Market.SPOT:
        why = "no spot price ever is above it, since EC2 charges at most the on-demand price"
    return Problem(key="pause_above", message=f"it has no effect: {why}", hint="leave it out")


def _never(least: Offer) -> Problem:
    return Problem(
        key="pause_above",
        message="the job would never run: on-demand prices do not change, and the least is"
        f" {_price(least)}",
        hint="leave it out, or take spot (use_spot: true)",
    )


def _waits(least: Offer) -> Problem:
    return Problem(
        key="pause_above",
        message=f"every offer is above it now, the least is {_price(least)}: the job waits until"
        " one is at resume_below",
    )


def _no_rescue(least: Offer) -> Problem:
    return Problem(
        key="pause_above",
        message=f"on-demand is above it ({_price(least)}) and so never taken: the deadline is"
        " missed where spot does not suffice",
    )


def _price(offer: Offer) -> str:
    return f"{usd(offer.price_usd_micros_hour)}/h on {offer.pool}"
