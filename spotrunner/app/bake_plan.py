"""What there is of a baked image, what is to be done, and what that will cost. Nothing is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spotrunner.adapters.aws.images import AwsImages, Base, Bench
from spotrunner.core.baked import (
    AVAILABLE,
    LONGEST_S,
    PENDING,
    VALUE_LENGTH,
    BakedImage,
    Recipe,
    driver_of,
)
from spotrunner.core.catalogue import TYPES, Architecture, family_of
from spotrunner.core.charges import (
    extras_usd_micros_hour,
    snapshot_usd_micros_month,
    transfer_usd_micros,
)
from spotrunner.daemon.request import AgentArchive
from spotrunner.daemon.settings import Settings
from spotrunner.ports import Misconfigured, Prices, Sites

# Room for the container's image, beside what the base has on its disk.
ROOM_GIB = 20
_GIB = 2**30
# Small, sold nearly everywhere, and able to start from images made for GPUs; the first that is
# offered is taken. Nothing is computed on it.
_SMALL: Mapping[Architecture, tuple[str, ...]] = {
    Architecture.X86_64: ("t3.large", "t3a.large", "m7i-flex.large", "m6i.large"),
    Architecture.ARM64: ("t4g.large", "m7g.large"),
}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """`kind` is a type of the GPUs that it is for; `base` names the machine image to add to, with
    its region, where it is not the usual one."""

    container: str
    regions: tuple[str, ...]
    kind: str
    base: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """At the most, in micro-dollars: by AWS's list prices, as if the disk were full. `instance` is
    None where AWS's list has no price of the type there."""

    instance: int | None
    copies: int
    keeping_a_month: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is of it, and what is to be done. `image` is the one in `region`, from which the
    others are copied. `disk_gib` is the smallest disk that a job can start from it with; in
    `overruled` the settings name another image for this type, and that one is taken."""

    recipe: Recipe
    region: str
    regions: tuple[str, ...]
    base: Base
    agent: AgentArchive
    image: BakedImage | None
    bench: Bench | None
    copies: tuple[BakedImage, ...]
    instance_type: str
    costs: Costs
    disk_gib: int
    overruled: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        there = {copy.region for copy in self.copies}
        return tuple(it for it in self.regions if it != self.region and it not in there)

    @property
    def is_done(self) -> bool:
        every = [*self.copies, *([self.image] if self.image else [])]
        return (
            self.image is not None
            and not self.missing
            and (all(image.state == AVAILABLE for image in every))
        )


class Planner:
    """`shelve` puts the agent's archive for this kind of CPU into the home bucket."""

    def __init__(
        self,
        *,
        settings: Settings,
        images: AwsImages,
        sites: Sites,
        prices: Prices,
        shelve: Callable[[Architecture], AgentArchive],
        installation: str,
    ) -> None:
        self._settings = settings
        self._images = images
        self._sites = sites
        self._prices = prices
        self._shelve = shelve
        self._installation = installation

    def plan(self, wish: Wish) -> Plan:
        """Raises PortError, also where it cannot be made as it is wished."""
        if len(wish.container) > VALUE_LENGTH:
            raise Misconfigured(
                f"the container image's name is longer than the {VALUE_LENGTH} characters that a"
                " tag of EC2 holds: give it a shorter one"
            )
        region, base = self._base(wish)
        regions = tuple(dict.fromkeys((region, *wish.regions)))
        agent = self._shelve(base.architecture)
        recipe = Recipe(
            container=wish.container,
            base=f"{region}/{base.id}",
            driver=driver_of(TYPES[wish.kind]),
            architecture=base.architecture,
            agent_sha256=agent.sha256,
        )
        found = {
            it: self._newest(recipe, self._images.baked(it, self._installation)) for it in regions
        }
        image = found.pop(region)
        bench = self._bench(region, recipe)
        kind = self._small(region, base.architecture)
        return Plan(
            recipe=recipe,
            region=region,
            regions=regions,
            base=base,
            agent=agent,
            image=image,
            bench=bench,
            copies=tuple(copy for copy in found.values() if copy is not None),
            instance_type=kind,
            costs=self._costs(region, regions, kind, base.disk_gib + ROOM_GIB),
            disk_gib=base.disk_gib + ROOM_GIB if image is None else image.disk_gib,
            overruled=tuple(it for it in regions if self._is_named(it, wish.kind)),
        )

    def _is_named(self, region: str, kind: str) -> bool:
        named = self._settings.amis.get(region, {})
        return kind in named or family_of(kind) in named

    def _base(self, wish: Wish) -> tuple[str, Base]:
        """Near the bucket where that may be; a machine image that is named says where."""
        if wish.base is not None:
            region, id_ = wish.base
        else:
            home = self._settings.home.region
            region = home if home in wish.regions else wish.regions[0]
            id_ = self._sites.image(region, wish.kind).id
        base = self._images.base(region, id_)
        if base.architecture is not TYPES[wish.kind].architecture:
            raise Misconfigured(
                f"{id_} is for {base.architecture.value}, and {wish.kind} is"
                f" {TYPES[wish.kind].architecture.value}"
            )
        return region, base

    def _newest(self, recipe: Recipe, images: Sequence[BakedImage]) -> BakedImage | None:
        fitting = [
            image
            for image in images
            if image.label.recipe == recipe and image.state in (AVAILABLE, PENDING)
        ]
        return max(fitting, key=lambda image: image.made_at, default=None)

    def _bench(self, region: str, recipe: Recipe) -> Bench | None:
        for bench in self._images.benches(region, self._installation):
            if bench.alive and bench.label.recipe == recipe:
                return bench
        return None

    def _small(self, region: str, architecture: Architecture) -> str:
        wanted = _SMALL[architecture]
        offered = {pool.instance_type for pool in self._prices.offered(region, wanted)}
        for kind in wanted:
            if kind in offered:
                return kind
        raise Misconfigured(f"{region} offers none of {', '.join(wanted)} to bake on")

    def _costs(self, region: str, regions: Sequence[str], kind: str, disk_gib: int) -> Costs:
        price = self._prices.on_demand(region, [kind]).get(kind)
        extras = extras_usd_micros_hour(region, disk_gib)
        full = disk_gib * _GIB
        return Costs(
            instance=None if price is None else (price + extras) * LONGEST_S // 3600,
            copies=(len(regions) - 1) * transfer_usd_micros(full, region),
            keeping_a_month=sum(snapshot_usd_micros_month(it, full) for it in regions),
        )
