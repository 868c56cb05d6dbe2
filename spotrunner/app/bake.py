"""Make a machine image that has a container's image and the agent on it, step by step, with someone
watching.

Nothing of it is kept but in EC2's tags: whoever begins again goes on with what is there. What costs
money ends by itself: the instance powers off an hour after its start at the latest, also with this
process, this machine and the network gone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.images import AwsImages, Bench
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.prices import AwsPrices
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.app import archive, logs
from spotrunner.app.bake_plan import ROOM_GIB, Plan, Planner
from spotrunner.app.installation import known
from spotrunner.app.shelf import shelve
from spotrunner.core.baked import AVAILABLE, LONGEST_S, PENDING, BakedImage, Label, tags_of
from spotrunner.core.boot import Baking, baking_user_data
from spotrunner.core.catalogue import Architecture
from spotrunner.core.ids import TAG_ATTEMPT, bake_id, client_token
from spotrunner.core.model import Instance, InstanceState, LaunchRequest, Market, Pool, Refused
from spotrunner.daemon.request import URL_LIFETIME_S, AgentArchive
from spotrunner.daemon.settings import Settings
from spotrunner.ports import (
    Clock,
    Cloud,
    LaunchRefused,
    Misconfigured,
    NotFound,
    Objects,
    OutcomeUnknown,
    PortError,
    Prices,
    Sites,
    Unavailable,
)

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Every limit of a bake, in seconds."""

    poll_s: float = 5.0
    # from the launch until the container's image is pulled, and nothing writes any more
    pull_s: float = float(LONGEST_S)
    image_s: float = 3600.0
    copy_s: float = 2 * 3600.0
    # tries of a call that got no answer
    tries: int = 3


class BakeFailed(Exception):
    """It came to nothing; the message says why."""


class Bakery:
    """`planner.plan` first, then `bake`. `tell` takes a line for people."""

    def __init__(
        self,
        *,
        settings: Settings,
        images: AwsImages,
        planner: Planner,
        cloud: Cloud,
        sites: Sites,
        prices: Prices,
        objects: Objects,
        clock: Clock,
        installation: str,
        tell: Callable[[str], None],
        patience: Patience,
        pause: Callable[[float], object],
    ) -> None:
        self._settings = settings
        self.images = images
        self.planner = planner
        self._cloud = cloud
        self._sites = sites
        self._prices = prices
        self._objects = objects
        self.clock = clock
        self.installation = installation
        self._tell = tell
        self._patience = patience
        self._pause = pause

    # -- the interface -------------------------------------------------------------------------

    def bake(self, plan: Plan) -> tuple[BakedImage, ...]:
        """The images, by region in the plan's order. Raises BakeFailed and PortError; whatever
        happens, the instance is ended before it returns, also by KeyboardInterrupt."""
        image = self._made(plan) if plan.image else self._make(plan)
        copies = [copy for copy in plan.copies if copy.state in (AVAILABLE, PENDING)]
        for region in plan.missing:
            copies.append(self._copied(image, region))
        done = [self._available(copy, self._patience.copy_s) for copy in copies]
        by_region = {it.region: it for it in (image, *done)}
        return tuple(by_region[region] for region in plan.regions)

    def _copied(self, image: BakedImage, region: str) -> BakedImage:
        """Under the token of an earlier run EC2 would answer with the copy of then, which may have
        failed or been removed since: each run has its own."""
        try:
            copy = self._again(partial(self.images.copy, image, region, secrets.token_hex(16)))
        except Misconfigured:
            # The name is taken, by one that failed or that no listing had shown yet.
            found = self._again(lambda: self.images.made(region, image.label))
            if found is None:
                raise
            return found
        self._tell(f"copying to {region}: {copy}")
        return dataclasses.replace(image, id=copy, region=region, state=PENDING)

    def _made(self, plan: Plan) -> BakedImage:
        """Somebody had begun it, and was interrupted."""
        assert plan.image is not None
        try:
            return self._available(plan.image, self._patience.image_s)
        finally:
            if plan.bench is not None:
                self._end(plan.bench)

    # -- on the instance -----------------------------------------------------------------------

    def _make(self, plan: Plan) -> BakedImage:
        """Pending, and the instance is still there: EC2 reads its disk now."""
        bench = plan.bench or self._launch(plan)
        if plan.bench:
            self._tell(f"going on with {bench.id}, launched at {bench.launched_at:%H:%M} UTC")
        try:
            digest = self._pulled(bench)
            self._tell(f"{plan.recipe.container} is on it: {digest}")
            image = self._snapshot(bench, bench.label.pulled(digest))
            # The image is what the disk was when it was asked for; until then it needs the disk.
            return self._available(image, self._patience.image_s)
        finally:
            self._end(bench)

    def _launch(self, plan: Plan) -> Bench:
        bake = bake_id(secrets.token_hex(4))
        try:
            return self._launched(plan, bake)
        except KeyboardInterrupt:
            self._end_launched(plan.region, client_token(self.installation, bake))
            raise

    def _launched(self, plan: Plan, bake: str) -> Bench:
        label = Label(installation=self.installation, bake=bake, recipe=plan.recipe)
        site = self._sites.site(plan.region)
        script = self._script(plan, bake)
        offered = self._prices.offered(plan.region, [plan.instance_type])
        zones = sorted(pool.zone for pool in offered if pool.zone in site.subnets)
        for zone in zones:
            request = LaunchRequest(
                client_token=client_token(self.installation, bake),
                pool=Pool(region=plan.region, zone=zone, instance_type=plan.instance_type),
                market=Market.ON_DEMAND,
                image_id=plan.base.id,
                root_device=plan.base.root_device,
                subnet_id=site.subnets[zone],
                user_data=script,
                disk_gib=plan.base.disk_gib + ROOM_GIB,
                tags=(("Name", f"spotrunner {bake}"), (TAG_ATTEMPT, bake), *tags_of(label)),
                security_group_ids=site.security_group_ids,
                instance_profile=site.instance_profile,
            )
            try:
                id_, at = self._sent(request)
            except LaunchRefused as error:
                if error.meaning not in (Refused.CAPACITY, Refused.OFFERING):
                    raise
                self._tell(f"{zone}: {error}")
                continue
            self._tell(f"launched {id_}, a {plan.instance_type} in {zone}, for {LONGEST_S // 60}m")
            return Bench(id=id_, region=plan.region, label=label, alive=True, launched_at=at)
        raise BakeFailed(f"no zone of {plan.region} gives a {plan.instance_type} now: try later")

    def _end_launched(self, region: str, token: str) -> None:
        """Somebody went while nobody knew what the launch would bring. One look: EC2 may not list
        it yet, and then it ends itself."""
        try:
            found = [it.id for it in self._cloud.by_token(region, token) if it.billed]
            self._cloud.terminate(region, found)
        except PortError as error:
            self._tell(f"what was launched ends itself within {LONGEST_S // 60}m ({error})")
            return
        for id_ in found:
            self._tell(f"{id_} is terminated")
        if not found:
            self._tell(f"EC2 lists none; what was launched ends itself within {LONGEST_S // 60}m")

    def _sent(self, request: LaunchRequest) -> tuple[str, dt.datetime]:
        """The same bytes under the same token again: what was launched is answered."""
        for _ in range(self._patience.tries):
            try:
                launched = self._cloud.launch(request)
            except (OutcomeUnknown, Unavailable) as error:
                self._tell(f"no answer to the launch ({error}); asking again")
                self._pause(self._patience.poll_s)
            else:
                return launched.instance_id, launched.at
        raise BakeFailed(
            "nobody knows whether it was launched: what was ends itself within"
            f" {LONGEST_S // 60}m; the same command goes on with it"
        )

    def _script(self, plan: Plan, bake: str) -> str:
        settings = self._settings
        return baking_user_data(
            Baking(
                bake=bake,
                archive_url=self._objects.presigned(plan.agent.key, URL_LIFETIME_S),
                archive_sha256=plan.agent.sha256,
                report_url=self.images.report_url(
                    settings.home.region, settings.home.bucket, _key(bake), URL_LIFETIME_S
                ),
                container=plan.recipe.container,
                longest_s=LONGEST_S,
                endpoint_url=settings.endpoint_url,
                image_mirror=settings.image_mirrors.get(plan.region),
            )
        )

    def _pulled(self, bench: Bench) -> str:
        """The digest of the container's image, once it is there and nothing writes any more."""
        self._tell("it boots, and pulls the container's image")
        ends_at = bench.launched_at + dt.timedelta(seconds=self._patience.pull_s)
        while True:
            told = self._report(bench)
            if told is not None:
                if "digest" not in told:
                    raise BakeFailed(told.get("failed") or "the instance does not say why")
                return str(told["digest"])
            if self._state(bench) in (InstanceState.ENDING, InstanceState.ENDED):
                raise BakeFailed(f"{bench.id} ended before it was ready{self._last_words(bench)}")
            if self.clock.now() >= ends_at:
                raise BakeFailed(f"{bench.id} is not ready in time{self._last_words(bench)}")
            self._pause(self._patience.poll_s)

    def _report(self, bench: Bench) -> Mapping[str, str] | None:
        try:
            body = self._objects.get(_key(bench.label.bake)).body
        except (NotFound, Unavailable):
            return None
        try:
            told = json.loads(body)
        except ValueError:
            told = None
        return told if isinstance(told, dict) else {"failed": f"it reports {body[:200]!r}"}

    def _state(self, bench: Bench) -> InstanceState | None:
        """None where it is not known (yet)."""
        try:
            found: Instance = self._cloud.by_id(bench.region, bench.id)
        except (NotFound, Unavailable):
            return None
        return found.state

    def _last_words(self, bench: Bench) -> str:
        try:
            console = self.images.console(bench.region, bench.id)
        except PortError:
            return ""
        return f"; its console ends with:\n{console}" if console else ""

    def _snapshot(self, bench: Bench, label: Label) -> BakedImage:
        """An answer that was lost is looked for by the name, which is given only once."""
        for _ in range(self._patience.tries):
            try:
                made = self.images.make(bench.region, bench.id, label)
            except (Unavailable, Misconfigured) as error:
                found = self._again(lambda: self.images.made(bench.region, label))
                if found is None and isinstance(error, Misconfigured):
                    raise
                if found is None:
                    self._pause(self._patience.poll_s)
                    continue
                made = found.id
            self._tell(f"making the image: {made} (some minutes)")
            return self._one(bench.region, made)
        raise BakeFailed("EC2 does not answer whether it makes the image")

    def _one(self, region: str, image_id: str) -> BakedImage:
        """EC2 may not know yet what it has just made."""
        for _ in range(60):
            try:
                return self.images.one(region, image_id)
            except (NotFound, Unavailable):
                self._pause(self._patience.poll_s)
        raise BakeFailed(f"EC2 does not show {image_id} in {region}")

    def _available(self, image: BakedImage, longest_s: float) -> BakedImage:
        ends_at = self.clock.now() + dt.timedelta(seconds=longest_s)
        while True:
            if image.state == AVAILABLE:
                self._tell(f"{image.id} in {image.region} is available")
                return image
            if image.state != PENDING:
                raise BakeFailed(
                    f"{image.id} in {image.region} is {image.state}: {image.trouble or 'why?'};"
                    f" spotrunner bake rm {image.id} takes it away"
                )
            if self.clock.now() >= ends_at:
                raise BakeFailed(
                    f"{image.id} in {image.region} is still pending: it may become available"
                    " later; the same command goes on with it"
                )
            self._pause(self._patience.poll_s)
            image = self._one(image.region, image.id)

    def _end(self, bench: Bench) -> None:
        """Not worth an error: it ends itself."""
        try:
            self._again(lambda: self._cloud.terminate(bench.region, [bench.id]))
            self._objects.delete([_key(bench.label.bake)])
        except PortError as error:
            ends_at = bench.launched_at + dt.timedelta(seconds=LONGEST_S)
            self._tell(f"{bench.id} ends itself by {ends_at:%H:%M} UTC ({error})")
        else:
            self._tell(f"{bench.id} is terminated")

    def _again(self, call: Callable[[], R]) -> R:
        """After no answer; what is refused is refused."""
        for _ in range(self._patience.tries - 1):
            try:
                return call()
            except Unavailable:
                self._pause(self._patience.poll_s)
        return call()


def _key(bake: str) -> str:
    """Where the instance says what came of it."""
    return f"bake/{bake.rpartition(':')[2]}.json"


Shelve = Callable[[Objects, Path, Architecture], AgentArchive]


def _shelved(
    objects: Objects, settings: Settings, shelve: Shelve, architecture: Architecture
) -> AgentArchive:
    # Instances that the lab emulates are processes of this host.
    if settings.endpoint_url is not None:
        architecture = archive.here()
    with tempfile.TemporaryDirectory() as folder:
        return shelve(objects, Path(folder), architecture)


# -- put together ------------------------------------------------------------------------------


def bakery(
    settings: Settings,
    tell: Callable[[str], None],
    *,
    patience: Patience = Patience(),
    pause: Callable[[float], object] | None = None,
    shelve: Shelve = shelve,
) -> Bakery:
    """Over AWS, with the environment's credentials. Raises PortError where the bucket is none of
    an installation's."""
    logs.configure(sys.stderr, level=logging.WARNING)
    clock = ServerClock()
    aws = Aws(clock=clock, endpoint_url=settings.endpoint_url)
    objects = S3Objects(aws.s3(settings.home.region), settings.home.bucket)
    images, prices, installation = AwsImages(aws), AwsPrices(aws), known(objects)
    # Not by our own images: one is never made from another.
    sites = AwsSites(
        aws,
        instance_profile=settings.instance_profile,
        security_groups=settings.security_groups,
        amis=settings.amis,
    )
    return Bakery(
        settings=settings,
        images=images,
        planner=Planner(
            settings=settings,
            images=images,
            sites=sites,
            prices=prices,
            shelve=partial(_shelved, objects, settings, shelve),
            installation=installation,
        ),
        cloud=Ec2Cloud(aws),
        sites=sites,
        prices=prices,
        objects=objects,
        clock=clock,
        installation=installation,
        tell=tell,
        patience=patience,
        pause=pause or threading.Event().wait,
    )
