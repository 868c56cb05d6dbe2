"""What is wrong with a job as only the daemon can know: what its regions offer, which images there
are, whether its data lies there, whether its budget pays a start. Everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from spotrunner.core.catalogue import USABLE, closest_name, nearest
from spotrunner.core.located import Problem
from spotrunner.core.model import DataSource, JobSpec, Offer
from spotrunner.core.money import HOUR_S, first_paid_s, start_s, usd
from spotrunner.ports import Misconfigured, NotAuthorized
from spotrunner.web.deps import Deps
from spotrunner.web.schema import bucket_and_prefix

_CENT_USD_MICROS = 10_000


def problems(deps: Deps, spec: JobSpec) -> list[Problem]:
    """Raises Unavailable when AWS cannot be asked now."""
    here = [region for region in spec.regions if region in deps.regions]
    offers = deps.offers(here, spec.instance_types)
    return [
        *_regions(deps, spec),
        *(_types(deps, spec, here, offers) if here else ()),
        *_images(deps, spec, offers),
        *_data(deps, spec),
        *_budget(deps, spec, offers),
    ]


def _regions(deps: Deps, spec: JobSpec) -> Iterator[Problem]:
    for index, region in enumerate(spec.regions):
        if region not in deps.regions:
            close = closest_name(region, deps.regions)
            yield Problem(
                key=f"resources.regions.{index}",
                message=f"the daemon does not use {region}; it uses {', '.join(deps.regions)}",
                hint=f"nearest: {close}" if close else "",
            )


def _types(
    deps: Deps, spec: JobSpec, regions: list[str], offers: tuple[Offer, ...]
) -> Iterator[Problem]:
    offered = {offer.pool.instance_type for offer in offers}
    missing = [name for name in spec.instance_types if name not in offered]
    if not missing:
        return
    # Only now everything that could stand in is looked up: it is a lot to ask EC2 for.
    others = {offer.pool.instance_type for offer in deps.offers(regions, USABLE)}
    where = ", ".join(regions)
    if not others:
        yield Problem(
            key="resources.regions",
            message=f"no GPU type has a known price in {where} now: none is offered there, or EC2"
            " does not answer (the daemon's log says which)",
        )
        return
    for name in missing:
        instead = nearest(name, others)
        yield Problem(
            key=f"resources.instance_types.{spec.instance_types.index(name)}",
            message=f"{name} is not offered in {where}",
            hint=f"the nearest type offered there is {instead}" if instead else "",
        )


def _images(deps: Deps, spec: JobSpec, offers: tuple[Offer, ...]) -> Iterator[Problem]:
    named = dict(spec.amis)
    sold = sorted({(offer.pool.instance_type, offer.pool.region) for offer in offers})
    for name, region in sold:
        if region in named:
            continue
        try:
            deps.sites.image(region, name)
        except Misconfigured as error:
            yield Problem(
                key=f"resources.instance_types.{spec.instance_types.index(name)}",
                message=str(error),
                hint=f"or name it in the job file, amis: {{{region}: ami-…}}",
            )


def _data(deps: Deps, spec: JobSpec) -> Iterator[Problem]:
    for index, data in enumerate(spec.data):
        if (why := _why_not_there(deps, data)) is not None:
            yield Problem(key=f"data.{index}.source", message=why)


def _why_not_there(deps: Deps, data: DataSource) -> str | None:
    bucket, prefix = bucket_and_prefix(data.source)
    try:
        first = next(iter(deps.buckets.objects(bucket).list(prefix)), None)
    except (Misconfigured, NotAuthorized) as error:
        return f"{data.source} cannot be read: {error}"
    return None if first is not None else f"there is nothing in {data.source}"


def _budget(deps: Deps, spec: JobSpec, offers: tuple[Offer, ...]) -> Iterator[Problem]:
    """A start on the offer that needs the least in reserve, as core/place will count it."""
    wanted = [offer for offer in offers if offer.market is spec.market]
    least = min(wanted, key=lambda offer: offer.dearest_usd_micros_hour, default=None)
    if least is None or spec.budget_usd_micros is None:
        return
    pays_s = first_paid_s(spec.budget_usd_micros, least, deps.limits)
    if pays_s >= deps.limits.boot_allowance_s:
        return
    need_s = start_s(deps.limits)
    # Up to a whole cent, so that the number named is surely enough.
    per_cent = HOUR_S * _CENT_USD_MICROS
    cents = -(-need_s * least.dearest_usd_micros_hour // per_cent)
    yield Problem(
        key="budget",
        message=f"{usd(spec.budget_usd_micros)} does not pay a start: the first {need_s} s on"
        f" {least.pool} need {cents / 100:.2f} USD in reserve",
    )
