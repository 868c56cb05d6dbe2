"""Break glass: end everything of ours in an account, without daemon and store.

EC2's tags say what is ours and where its letters lie. First the brake, so that no daemon launches
again; then an order to stop for each instance, which saves and ends itself; then the end of what
is left; and at last a second look, for what was launched meanwhile. Nothing here waits without a
bound, and no region, bucket or instance can hold up the others.
"""

from __future__ import annotations

import datetime as dt
import getpass
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from spotrunner.adapters.aws.census import Census, Sighting
from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.mail import Brake
from spotrunner.app import logs
from spotrunner.app.bounded import each
from spotrunner.app.fates import SPENT, Case, Fate, Outcome
from spotrunner.app.letters import Letters
from spotrunner.core.ids import home_of
from spotrunner.core.model import Limits
from spotrunner.ports import Clock, Cloud, Misconfigured, PortError, Unavailable

T = TypeVar("T")

WHY = "spotrunner panic"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Every limit of a panic, in seconds. The sum of the bounds is what it takes at the most."""

    # -- to look around, to set the brakes, to order, to end: each for all at once
    look_s: float = 60.0
    brake_s: float = 20.0
    order_s: float = 60.0
    cancel_s: float = 30.0
    terminate_s: float = 90.0
    # -- while instances save
    grace_s: float = float(Limits().stop_s)
    poll_s: float = 3.0
    ask_s: float = 20.0
    # what has said its last word goes down by itself, or is helped
    power_off_s: float = 30.0
    # -- the second look: a round that had begun before the brake may still launch, and a launch is
    # in the listings by tag only a while later
    late_s: float = 60.0
    late_poll_s: float = 5.0
    # -- between the tries of a call that got no answer
    pauses_s: tuple[float, ...] = (1.0, 3.0)


class Panic:
    """`look` first, then `end`; `outcome` at any time, also after a KeyboardInterrupt. `tell` takes
    a line for people; `monotonic` and `pause` are seconds."""

    def __init__(
        self,
        *,
        census: Census,
        cloud: Cloud,
        letters: Callable[[str, str], Letters],
        clock: Clock,
        tell: Callable[[str], None],
        patience: Patience,
        monotonic: Callable[[], float],
        pause: Callable[[float], object],
    ) -> None:
        self._census = census
        self._cloud = cloud
        self._letters = letters
        self.clock = clock
        self._tell = tell
        self._patience = patience
        self._monotonic = monotonic
        self._pause = pause
        self._regions: tuple[str, ...] = ()
        self._answered: tuple[str, ...] = ()
        self._installation: str | None = None
        self._cases: dict[str, Case] = {}
        self._homes: dict[str, Letters] = {}
        self._silent: dict[str, str] = {}
        self._brakes: dict[str, str] = {}
        self._brakes_all = False
        self._cancelled: list[tuple[str, str]] = []
        self._troubles: list[str] = []

    # -- the interface -------------------------------------------------------------------------

    def look(self, regions: Sequence[str], installation: str | None) -> tuple[Sighting, ...]:
        """What is alive, in these regions or in all that the account has enabled. Raises PortError
        where those cannot be listed."""
        self._installation = installation
        self._regions = tuple(dict.fromkeys(regions)) or self._all_regions()
        self._list(self._regions, self._patience.look_s)
        self._answered = tuple(name for name in self._regions if name not in self._silent)
        return tuple(case.sighting for case in self._alive())

    @property
    def homes(self) -> tuple[str, ...]:
        """The home buckets of all that was seen, ended ones too: `<bucket>/<region>`."""
        return tuple(sorted(self._homes))

    @property
    def silent(self) -> Mapping[str, str]:
        return dict(self._silent)

    def end(self, *, now: bool, brake: bool) -> None:
        """End what is alive, and what turns up meanwhile: at once with `now`, else after it had
        the time to save. With `brake` no daemon launches anything until the brake is taken off."""
        began_at = self._monotonic()
        self._brakes_all = brake
        if brake:
            self._brake()
        if not now:
            self._cancel()
            self._save()
        self._terminate(self._alive())
        if now:
            self._cancel()
        self._end_late(began_at + self._patience.late_s)
        if brake and not self._homes:
            self._troubles.append("no brake was set: nothing that was seen names a home bucket")
        self._read_heads()

    def outcome(self) -> Outcome:
        fates = [
            Fate(
                sighting=case.sighting,
                how=case.how,
                told=case.ordered,
                step=case.step,
                note=case.trouble or case.note,
            )
            for case in self._cases.values()
        ]
        return Outcome(
            regions=self._regions,
            fates=tuple(fates),
            silent=dict(self._silent),
            brakes=dict(self._brakes),
            cancelled=tuple(self._cancelled),
            troubles=tuple(self._troubles),
        )

    # -- looking -------------------------------------------------------------------------------

    def _all_regions(self) -> tuple[str, ...]:
        asked = each(lambda _: self._census.regions(), ["regions"], self._patience.look_s)
        for why in asked.troubles.values():
            raise Misconfigured(
                f"the account's regions cannot be listed ({why}); name them: --region REGION"
            )
        return asked.answers["regions"]

    def _list(self, regions: Iterable[str], timeout_s: float) -> None:
        """A region that does not answer keeps what was last known of it."""

        def ask(region: str) -> tuple[Sighting, ...]:
            return self._patiently(lambda: self._census.sightings(region, self._installation))

        asked = each(ask, regions, timeout_s)
        for region, sightings in asked.answers.items():
            self._silent.pop(region, None)
            for sighting in sightings:
                self._saw(sighting)
        self._silent |= asked.troubles
        if self._brakes_all:
            # A home that only what is new names has none yet.
            self._brake()

    def _saw(self, sighting: Sighting) -> None:
        home = home_of(sighting.home or "")
        if sighting.home and home and sighting.home not in self._homes:
            self._homes[sighting.home] = self._letters(*home)
        case = self._cases.get(sighting.instance.id)
        if case is None and sighting.alive:
            self._cases[sighting.instance.id] = Case(sighting=sighting)
        elif case is not None and not sighting.alive:
            case.ended = True

    def _alive(self) -> list[Case]:
        return [case for case in self._cases.values() if case.alive]

    # -- the brake, and what may still become an instance --------------------------------------

    def _brake(self) -> None:
        brake = Brake(at=self.clock.now(), by=_who(), why=WHY)
        homes = [home for home in self._homes if home not in self._brakes]
        asked = each(lambda home: self._homes[home].brake(brake), homes, self._patience.brake_s)
        self._brakes |= dict.fromkeys(asked.answers, "")
        self._brakes |= asked.troubles
        for home, why in asked.troubles.items():
            self._tell(f"no brake in {home}: {why}")

    def _cancel(self) -> None:
        def cancel(region: str) -> tuple[str, ...]:
            found = self._census.open_requests(region, self._installation)
            if found:
                self._census.cancel(region, found)
            return found

        asked = each(cancel, self._answered, self._patience.cancel_s)
        for region, found in asked.answers.items():
            self._cancelled += [(region, request) for request in found]
        for region, why in asked.troubles.items():
            self._trouble(f"open spot requests in {region} are not cancelled: {why}")

    # -- saving --------------------------------------------------------------------------------

    def _save(self) -> None:
        deadline = self._monotonic() + self._patience.grace_s
        told = ""
        while True:
            self._terminate(self._order())
            saving = [case for case in self._alive() if self._is_saving(case)]
            if not saving or self._monotonic() >= deadline:
                return
            told = self._progress(saving, told)
            self._pause(self._patience.poll_s)
            self._list({case.region for case in saving}, self._patience.ask_s)
            self._hear()

    def _order(self) -> list[Case]:
        """Tell each to stop, and return those that cannot be told. Also again: a daemon that was
        started meanwhile may have replaced an order of ours."""
        untold = [case for case in self._alive() if not case.hopeless and case.spent_at is None]
        deaf = [
            self._given_up(case, "no tag says where its letters lie")
            for case in untold
            if not self._has_letters(case)
        ]
        by_id = {case.id: case for case in untold if self._has_letters(case)}
        until = self.clock.now() + dt.timedelta(seconds=self._patience.grace_s)

        def order(instance_id: str) -> None:
            case = by_id[instance_id]
            self._patiently(lambda: self._home(case).stop(case.attempt, WHY, until))

        asked = each(order, by_id, self._patience.order_s)
        for instance_id in asked.answers:
            by_id[instance_id].ordered = True
        for instance_id, why in asked.troubles.items():
            if not by_id[instance_id].ordered:
                deaf.append(self._given_up(by_id[instance_id], why))
        return deaf

    def _has_letters(self, case: Case) -> bool:
        return bool(case.attempt) and case.sighting.home in self._homes

    def _given_up(self, case: Case, why: str) -> Case:
        case.hopeless = True
        case.note = f"no checkpoint possible: {why}"
        self._tell(f"{case.id} ({case.attempt or 'no attempt'}): {case.note}")
        return case

    def _hear(self) -> None:
        """What agents say now; silence changes nothing."""
        by_id = {case.id: case for case in self._alive() if not case.hopeless}
        asked = each(
            lambda instance_id: self._home(by_id[instance_id]).phase(by_id[instance_id].attempt),
            by_id,
            self._patience.ask_s,
        )
        for instance_id, phase in asked.answers.items():
            case = by_id[instance_id]
            case.phase = phase or case.phase
            if case.phase in SPENT and case.spent_at is None:
                case.spent_at = self._monotonic()

    def _is_saving(self, case: Case) -> bool:
        """It was told, and has not said its last word, or had no time yet to go down after it."""
        if case.hopeless or case.spent_at is None:
            return not case.hopeless
        return self._monotonic() < case.spent_at + self._patience.power_off_s

    def _progress(self, saving: Sequence[Case], told: str) -> str:
        """A line whenever it would be another one."""
        words = ", ".join(
            f"{case.attempt} {case.phase.value if case.phase else 'was told'}"
            for case in saving[:_NAMED]
        )
        more = f" and {len(saving) - _NAMED} more" if len(saving) > _NAMED else ""
        line = f"saving: {len(saving)} of {len(self._cases)} ({words}{more})"
        if line != told:
            self._tell(line)
        return line

    # -- ending --------------------------------------------------------------------------------

    def _terminate(self, cases: Sequence[Case]) -> None:
        by_region: dict[str, list[Case]] = {}
        for case in cases:
            by_region.setdefault(case.region, []).append(case)

        def end(region: str) -> dict[str, str]:
            return self._end_in(region, [case.id for case in by_region[region]])

        asked = each(end, by_region, self._patience.terminate_s)
        for region, ending in by_region.items():
            troubles = asked.answers.get(region)
            for case in ending:
                why = asked.troubles[region] if troubles is None else troubles.get(case.id, "")
                case.terminated, case.trouble = not why, why
                if why:
                    self._tell(f"{case.id} in {region} is not terminated: {why}")

    def _end_in(self, region: str, ids: Sequence[str]) -> dict[str, str]:
        """Why each of those that could not be ended was not. One that EC2 does not let go takes
        all others of its call with it: then each is asked for alone."""
        try:
            self._patiently(lambda: self._cloud.terminate(region, ids))
        except PortError as error:
            if len(ids) == 1:
                return {ids[0]: str(error)}
            alone = each(
                lambda id_: self._patiently(lambda: self._cloud.terminate(region, [id_])),
                ids,
                self._patience.terminate_s / 2,
            )
            return dict(alone.troubles)
        return {}

    def _end_late(self, until: float) -> None:
        """What a daemon launched before it saw the brake is too young to have anything to save."""
        if not (self._cases or self._brakes):
            return
        if self._monotonic() < until:
            self._tell(f"looking {until - self._monotonic():.0f} s for launches under way")
        while True:
            known = set(self._cases)
            self._list(self._answered, self._patience.ask_s)
            late = [case for case in self._alive() if case.id not in known]
            for case in late:
                case.note = "it was launched meanwhile"
            self._terminate(late)
            if self._monotonic() >= until:
                return
            self._pause(self._patience.late_poll_s)

    def _read_heads(self) -> None:
        """How far each job got, for the last words only."""
        cases = [c for c in self._cases.values() if c.sighting.home in self._homes]
        by_job = {c.sighting.instance.job_id or "": c for c in cases}
        by_job.pop("", None)
        asked = each(lambda job: self._home(by_job[job]).head(job), by_job, self._patience.ask_s)
        for case in cases:
            head = asked.answers.get(case.sighting.instance.job_id or "")
            if head is not None:
                case.step = head.step
                final = head.final or head.done is not None
                case.holds_final = final and head.attempt == case.attempt

    # -- inside --------------------------------------------------------------------------------

    def _home(self, case: Case) -> Letters:
        assert case.sighting.home is not None
        return self._homes[case.sighting.home]

    def _patiently(self, call: Callable[[], T]) -> T:
        """Again after no answer; what is refused is refused."""
        for pause_s in self._patience.pauses_s:
            try:
                return call()
            except Unavailable:
                self._pause(pause_s)
        return call()

    def _trouble(self, words: str) -> None:
        self._troubles.append(words)
        self._tell(words)


# How many are named in a line of progress.
_NAMED = 3


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


# -- put together ------------------------------------------------------------------------------


def panic(
    endpoint_url: str | None,
    tell: Callable[[str], None],
    *,
    patience: Patience = Patience(),
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] | None = None,
) -> Panic:
    """Over AWS, with the environment's credentials; `endpoint_url` takes the place of all of its
    endpoints."""
    logs.configure(sys.stderr, level=logging.WARNING)
    clock = ServerClock()
    aws = Aws(clock=clock, endpoint_url=endpoint_url)

    def letters(bucket: str, region: str) -> Letters:
        return Letters(objects=S3Objects(aws.s3(region), bucket))

    return Panic(
        census=Census(aws, clock),
        cloud=Ec2Cloud(aws),
        letters=letters,
        clock=clock,
        tell=tell,
        patience=patience,
        monotonic=monotonic,
        pause=pause or threading.Event().wait,
    )
