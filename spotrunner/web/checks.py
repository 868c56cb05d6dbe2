"""What is wrong with a job as only the daemon can know: what its regions offer, which images there
are, whether its data lies there, whether its budget pays a start and its time is enough. Everything
at once.

Only evidence refuses a job. What a region that does not answer may offer is unknown: the job is
taken, and told of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TypeVar

from spotrunner.core.baked import Need
from spotrunner.core.catalogue import USABLE, closest_name, nearest
from spotrunner.core.ids import TAG_SUBNET
from spotrunner.core.located import Problem
from spotrunner.core.model import Job, JobSpec, Market, Pool
from spotrunner.core.money import usd
from spotrunner.core.purse import Purse
from spotrunner.core.states import JobState
from spotrunner.ports import Misconfigured, NotAuthorized, PortError, Site, Unavailable
from spotrunner.web import caps, nights, pricing, promise, timing
from spotrunner.web.deps import Deps
from spotrunner.web.sources import measured

T = TypeVar("T")

NEEDS_NUMPY = frozenset({"planner"})


@dataclass(frozen=True, kw_only=True)
class Checked:
    """`wrong` refuses the job; `warnings` are what is not known, or does not help it. `spec` is the
    job's, with where its data is and how much, and the budget that it is submitted with."""

    spec: JobSpec
    wrong: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def check(
    deps: Deps, spec: JobSpec, allow_late: bool = False, raises_budget: bool = False
) -> Checked:
    """With `allow_late` a deadline that cannot be met is a warning; with `raises_budget` one that
    the budget does not pay for raises it. Raises Unavailable when nothing is wrong as far as is
    known, and none of the job's regions, or the bucket of its data, can be asked now."""
    return _Check(deps, spec, allow_late, raises_budget).all()


class _Check:
    def __init__(self, deps: Deps, spec: JobSpec, allow_late: bool, raises_budget: bool) -> None:
        self._deps = deps
        self._spec = spec
        self._allow_late = allow_late
        self._raises_budget = raises_budget
        self._now = deps.clock.now()
        self._here = tuple(region for region in spec.regions if region in deps.regions)
        self._outlook = deps.outlook(self._here, spec.instance_types)
        self._offers = self._outlook.offers
        # Why a region cannot be asked: nothing more is asked of it, since each call takes long.
        self._silent: dict[str, Unavailable] = {}
        self._barred: dict[str, NotAuthorized] = {}
        self._warnings: list[Problem] = []

    def all(self) -> Checked:
        wrong = [
            *self._strange_regions(),
            *self._types(),
            *self._sites(),
            *self._images(),
            *self._data(),
            *self._window(),
            # first, since it may raise the budget
            *self._deadline(),
            *self._caps(),
            *self._bid(),
            *self._price_limit(),
            *self._policy(),
            *self._channels(),
            *self._barred_regions(),
        ]
        if self._silent and not wrong and len(self._silent) == len(self._here):
            whys = "; ".join(f"{region}: {why}" for region, why in self._silent.items())
            raise Unavailable(f"the job cannot be checked now, since no region answers ({whys})")
        return Checked(
            spec=self._spec,
            wrong=tuple(wrong),
            warnings=(*self._warnings, *self._silent_regions()),
        )

    # -- regions -------------------------------------------------------------------------------

    def _strange_regions(self) -> Iterator[Problem]:
        ours = self._deps.regions
        for region in self._spec.regions:
            if region not in ours:
                close = closest_name(region, ours)
                yield self._of_region(
                    region,
                    f"the daemon does not use {region}; it uses {', '.join(ours)}",
                    f"nearest: {close}" if close else "",
                )

    def _barred_regions(self) -> Iterator[Problem]:
        for region, why in self._barred.items():
            message = f"AWS does not allow the daemon to use {region}: {why}"
            yield self._of_region(region, message, "or leave the region out")

    def _silent_regions(self) -> Iterator[Problem]:
        for region, why in self._silent.items():
            yield self._of_region(
                region, f"{region} did not answer, so what it has could not be checked: {why}"
            )

    def _of_region(self, region: str, message: str, hint: str = "") -> Problem:
        key = f"resources.regions.{self._spec.regions.index(region)}"
        return Problem(key=key, message=message, hint=hint)

    def _ask(self, region: str, call: Callable[[], T]) -> T | None:
        """What the region answers; None, and it is noted why, if it cannot be asked.
        Raises Misconfigured."""
        if region in self._silent or region in self._barred:
            return None
        try:
            return call()
        except Unavailable as error:
            self._silent[region] = error
        except NotAuthorized as error:
            self._barred[region] = error
        return None

    # -- types ---------------------------------------------------------------------------------

    def _types(self) -> Iterator[Problem]:
        """A type without an offer is not offered, or has no known price, or is unknown."""
        priced = {offer.pool.instance_type for offer in self._offers}
        missing = [name for name in self._spec.instance_types if name not in priced]
        if not missing or not self._here:
            return
        pools = self._offered()
        for name in missing:
            where = sorted({pool.region for pool in pools if pool.instance_type == name})
            if where:
                self._warnings.append(
                    self._of_type(
                        name,
                        f"{name} is offered in {', '.join(where)}, but its price there is not known"
                        " now: it is taken once it is",
                    )
                )
            elif not self._silent and not self._barred:
                instead = nearest(name, {pool.instance_type for pool in pools})
                yield self._of_type(
                    name,
                    f"{name} is not offered in {', '.join(self._here)}",
                    f"the nearest type offered there is {instead}" if instead else "",
                )

    def _offered(self) -> frozenset[Pool]:
        """Where any type is offered that a job may name: one call a region, and no prices."""
        told = self._deps.offered(self._here, USABLE)
        found: set[Pool] = set()
        for region, answer in told.items():
            found |= self._ask(region, partial(_result, answer)) or frozenset()
        return frozenset(found)

    def _of_type(self, name: str, message: str, hint: str = "") -> Problem:
        key = f"resources.instance_types.{self._spec.instance_types.index(name)}"
        return Problem(key=key, message=message, hint=hint)

    # -- what a launch needs -------------------------------------------------------------------

    def _sites(self) -> Iterator[Problem]:
        for region in self._here:
            try:
                site = self._ask(region, partial(self._deps.sites.site, region))
            except Misconfigured as error:
                yield self._of_region(region, str(error), "or leave the region out")
                continue
            if site is not None:
                yield from self._subnets(region, site)

    def _subnets(self, region: str, site: Site) -> Iterator[Problem]:
        """A type that has no zone with a subnet cannot be launched there; where that is so of each
        of them, the region is of no use to the job."""
        zones: dict[str, set[str]] = {}
        for offer in self._offers:
            if offer.pool.region == region:
                zones.setdefault(offer.pool.instance_type, set()).add(offer.pool.zone)
        out = {name: there for name, there in zones.items() if not there & site.subnets.keys()}
        if not out:
            return
        where = ", ".join(sorted(set().union(*out.values())))
        problem = self._of_region(
            region,
            f"no subnet in any zone of {region} that offers {', '.join(sorted(out))} ({where})",
            f"add one there, with the tag {TAG_SUBNET} where others have it, or leave it out",
        )
        if len(out) == len(zones):
            yield problem
        else:
            self._warnings.append(problem)

    def _images(self) -> Iterator[Problem]:
        named = dict(self._spec.amis)
        sold = sorted({(offer.pool.instance_type, offer.pool.region) for offer in self._offers})
        wrong: dict[str, Problem] = {}
        for name, region in sold:
            image = named.get(region)
            need = Need(container=self._spec.image, disk_gib=self._spec.disk_gib)
            try:
                self._ask(region, partial(self._deps.sites.image, region, name, image, need))
            except Misconfigured as error:
                if image is not None:
                    key = f"amis.{region}"
                    wrong[key] = Problem(key=key, message=str(error))
                else:
                    hint = f"or name it in the job file, amis: {{{region}: ami-…}}"
                    wrong[f"{name} {region}"] = self._of_type(name, str(error), hint)
        yield from wrong.values()

    # -- data ----------------------------------------------------------------------------------

    def _data(self) -> Iterator[Problem]:
        found = [measured(self._deps.buckets, data, self._spec) for data in self._spec.data]
        for index, source in enumerate(found):
            key = f"data.{index}.source"
            if source.wrong:
                yield Problem(key=key, message=source.wrong)
            elif source.warning:
                self._warnings.append(Problem(key=key, message=source.warning))
        self._spec = dataclasses.replace(self._spec, data=tuple(source.data for source in found))

    # -- money ---------------------------------------------------------------------------------

    def _caps(self) -> Iterator[Problem]:
        """A region that is silent may have a cheaper offer than those that are known."""
        now, limits = self._now, self._deps.limits
        start = caps.least_start(self._spec, self._offers, limits)
        if start is None or self._silent:
            return
        purse = self._purse()
        yield from caps.never_paid(start, purse, self._deps.caps, now)
        self._warnings += caps.not_now(start, purse, now)
        if (short := caps.unattended(start, purse, now)) is not None:
            self._warnings.append(short)

    def _purse(self) -> Purse:
        return caps.purse_of_new(self._deps, self._job())

    def _job(self) -> Job:
        spec = self._spec
        return Job(id=spec.name, spec=spec, state=JobState.QUEUED, submitted_at=self._now)

    def _bid(self) -> Iterator[Problem]:
        """A bid below all prices would wait for ever, and nobody would say why."""
        bid = self._spec.max_price_usd_micros
        spot = [offer for offer in self._offers if offer.market is Market.SPOT]
        if bid is None or not spot:
            return
        above = [offer for offer in spot if offer.price_usd_micros_hour > bid]
        least = min(spot, key=lambda offer: offer.price_usd_micros_hour)
        floor = f"{usd(least.price_usd_micros_hour)}/h on {least.pool}"
        hint = "leave it out, which is better: EC2 charges the spot price, never the bid"
        if len(above) == len(spot) and not self._silent:
            message = f"{usd(bid)}/h is below every spot price now: the least is {floor}"
            yield Problem(key="max_price", message=message, hint=f"bid that at least, or {hint}")
        elif above:
            message = f"{usd(bid)}/h is below the spot price of {len(above)} of {len(spot)} pools"
            self._warnings.append(Problem(key="max_price", message=message, hint=hint))

    def _price_limit(self) -> Iterator[Problem]:
        """On-demand prices stay where they are; those of spot are at most theirs."""
        if self._spec.price_limit is None:
            return
        found = pricing.limited(self._spec, self._offers)
        if found.refuses and not self._silent:
            yield found.problems[0]
        else:
            self._warnings += found.problems

    # -- time ----------------------------------------------------------------------------------

    def _window(self) -> Iterator[Problem]:
        window = self._spec.window
        if window is not None:
            short = nights.too_short(window, self._now, self._deps.limits)
            yield from (short,) if short else ()

    def _deadline(self) -> Iterator[Problem]:
        now, limits = self._now, self._deps.limits
        if (past := timing.out_of_time(self._spec, now)) is not None:
            yield past
            return
        on_demand = [offer for offer in self._offers if offer.market is Market.ON_DEMAND]
        late = timing.late(self._spec, on_demand, now, limits)
        if late is None:
            self._promise()
            return
        # A type without a price may be faster than those that have one.
        priced = {offer.pool.instance_type for offer in on_demand}
        if self._allow_late or not priced.issuperset(self._spec.instance_types):
            self._warnings.append(dataclasses.replace(late, hint=""))
        else:
            yield late

    def _promise(self) -> None:
        """With `on_conflict: deadline` the budget becomes what the deadline needs."""
        needed = promise.needs(self._job(), self._outlook)
        if needed is None:
            return
        self._spec, told = promise.settled(self._spec, needed, self._raises_budget)
        bound = promise.bound_elsewhere(self._spec, needed, self._purse())
        self._warnings += [each for each in (told, bound) if each is not None]

    # -- the rest ------------------------------------------------------------------------------

    def _policy(self) -> Iterator[Problem]:
        """Of another version, or of one that was installed without what the policy needs."""
        name, known = self._spec.policy, self._deps.policies
        if name not in known:
            message = f"the daemon has no policy {name}; it has {', '.join(sorted(known))}"
            yield Problem(key="policy", message=message)
        elif name in NEEDS_NUMPY and find_spec("numpy") is None:
            yield Problem(
                key="policy",
                message=f"the policy {name} needs numpy, which the daemon does not have",
                hint="install it there: pip install 'spotrunner[planner]'",
            )

    def _channels(self) -> Iterator[Problem]:
        known = sorted(self._deps.channels)
        for index, name in enumerate(self._spec.alerts):
            if name not in known:
                close = closest_name(name, known)
                there = f"it has {', '.join(known)}" if known else "its settings name none"
                yield Problem(
                    key=f"alerts.{index}",
                    message=f"the daemon has no channel {name}; {there}",
                    hint=f"nearest: {close}" if close else "",
                )


def _result(answer: frozenset[Pool] | PortError) -> frozenset[Pool]:
    if isinstance(answer, PortError):
        raise answer
    return answer
