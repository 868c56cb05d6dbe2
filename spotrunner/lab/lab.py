"""The composition of a running lab, and what can be asked of it."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotrunner.lab.clock import LabClock
from spotrunner.lab.control import ControlApp
from spotrunner.lab.endpoint.app import EndpointApp
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import HttpServer
from spotrunner.lab.gate import Gate
from spotrunner.lab.host import ControlHost
from spotrunner.lab.hypervisor import Hypervisor
from spotrunner.lab.isolation import Isolation
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.lab.mail import Mail, owner_client
from spotrunner.lab.marks import INSTANCE_MARK
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION, INSTANCE_PROFILE, LabPaths
from spotrunner.lab.processes import marked
from spotrunner.lab.settings import write_settings
from spotrunner.lab.skip import Skipped, Skipper
from spotrunner.sim.setups import lab_setup
from spotrunner.sim.values import Charge, InstanceRecord, Stage
from spotrunner.sim.world import World


@dataclass(frozen=True, kw_only=True)
class LabOptions:
    """`reclaims`: whether the weather takes instances, or only refuses launches. `isolated`:
    whether each instance has namespaces and a docker daemon of its own; `reach` are the ports of
    this machine's loopback that such an instance reaches too."""

    seed: int = 1
    port: int = 0
    reclaims: bool = False
    isolated: bool = False
    reach: tuple[int, ...] = ()


class Lab:
    """From `start` to `close`. All methods are safe to use from several threads."""

    def __init__(self, folder: Path, options: LabOptions) -> None:
        self.id = f"lab-{secrets.token_hex(4)}"
        self.paths = LabPaths(folder=folder)
        self.options = options
        self.clock = LabClock()
        setup = lab_setup(options.seed, self.clock.now(), reclaims=options.reclaims)
        self.world = LockedWorld(World(setup, options.seed), self.clock)
        self.keys = RoleKeys()
        self.gate = Gate()
        self.hypervisor = Hypervisor(
            lab_id=self.id,
            folder=folder,
            world=self.world,
            keys=self.keys,
            isolation=Isolation(ports=self._ports) if options.isolated else None,
        )
        self.token = secrets.token_urlsafe(32)
        app = EndpointApp(
            world=self.world,
            keys=self.keys,
            gate=self.gate,
            console=self.hypervisor.console,
            disks=self.hypervisor.disks,
            awkwardness=Awkwardness(),
            seed=options.seed,
            control=ControlApp(self),
        )
        self.object_faults = app.object_faults
        self._server = HttpServer(app, options.port)
        self.url = self._server.url
        self._mail = Mail(owner_client(self.url, "s3", HOME_REGION), HOME_BUCKET)
        host = ControlHost(self.paths)
        self._skipper = Skipper(
            clock=self.clock,
            gate=self.gate,
            wake=self.hypervisor.wake,
            late=lambda since: self._mail.late(self._timers(), since),
            behind=lambda: self._mail.behind(self._timers(), self.clock.now()),
            stops=lambda: self._mail.stops(self._timers()),
            make_round=host.make_round,
            old_prices=host.old_prices,
        )

    def start(self) -> None:
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        self._server.start()
        self.hypervisor.start()
        _furnish(self.url)
        regions = [region.name for region in self.world.setup.regions]
        write_settings(self.paths, self.url, regions)

    def close(self) -> None:
        self.hypervisor.close()
        self._server.close()

    def _ports(self) -> Sequence[int]:
        """What isolated instances reach of this machine."""
        return list(dict.fromkeys([self._server.port, *self.options.reach]))

    # -- what can be asked -----------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        local = self.hypervisor.instances
        return {
            "lab": self.id,
            "seed": self.options.seed,
            "url": self.url,
            "now": self.clock.now().isoformat(),
            "offset_s": self.clock.offset.total_seconds(),
            "regions": [region.name for region in self.world.setup.regions],
            "home_bucket": HOME_BUCKET,
            "instances": [
                {
                    **_instance_row(record),
                    "imds_url": local[record.id].imds_url if record.id in local else None,
                    "role_keys": self.keys.issued(record.id),
                }
                for record in self.world.ask(World.truth)
            ],
        }

    def interrupt(self, instance_id: str, *, notice: bool) -> None:
        """Raises ApiError for what is no running spot instance."""
        self.world.ask(World.interrupt, instance_id, notice=notice)
        self.hypervisor.wake()

    def fail(self, instance_id: str) -> None:
        """Raises ApiError for what is no instance."""
        self.world.ask(World.fail, instance_id)
        self.hypervisor.wake()

    def skip(self, ahead: dt.timedelta) -> Skipped:
        return self._skipper.skip(ahead)

    def bill(self) -> dict[str, Any]:
        charges = self.world.ask(World.bill)
        return {
            "lines": [_bill_row(charge) for charge in charges],
            "usd": sum(charge.usd_micros for charge in charges) / 1e6,
        }

    def leftovers(self) -> dict[str, Any]:
        """What is still there: instances that are not terminated, and their processes."""
        records = self.world.ask(World.truth)
        processes = marked(INSTANCE_MARK, lambda value: value.startswith(f"{self.id}/"))
        return {
            "instances": [r.id for r in records if r.stage is not Stage.TERMINATED],
            "processes": [process.pid for process in processes],
        }

    # -- what a skip needs -----------------------------------------------------------------

    def _timers(self) -> Mapping[str, dt.datetime | None]:
        """When the instance of each attempt would power itself off; those only that run, or will
        in a moment."""
        local = self.hypervisor.instances
        return {
            dict(record.tags).get("spotrunner:attempt", ""): local[record.id].off_at
            if record.id in local
            else None
            for record in self.world.ask(World.truth)
            if record.stage in (Stage.PENDING, Stage.RUNNING)
        }


def _furnish(url: str) -> None:
    """What an account has before the first job: the home bucket, and the agents' role."""
    owner_client(url, "s3", HOME_REGION).create_bucket(Bucket=HOME_BUCKET)
    iam = owner_client(url, "iam", HOME_REGION)
    trust = {"Service": "ec2.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": trust, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_role(RoleName=INSTANCE_PROFILE, AssumeRolePolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=INSTANCE_PROFILE)
    iam.add_role_to_instance_profile(
        InstanceProfileName=INSTANCE_PROFILE, RoleName=INSTANCE_PROFILE
    )


def _instance_row(record: InstanceRecord) -> Mapping[str, Any]:
    tags = dict(record.tags)
    return {
        "id": record.id,
        "region": record.pool.region,
        "zone": record.pool.zone,
        "instance_type": record.pool.instance_type,
        "market": record.market.value,
        "state": record.stage.value,
        "launched_at": record.launched_at.isoformat(),
        "attempt": tags.get("spotrunner:attempt"),
        "job": tags.get("spotrunner:job"),
        "reason": record.reason.code if record.reason else None,
    }


def _bill_row(charge: Charge) -> Mapping[str, Any]:
    return {
        "instance": charge.instance_id,
        "zone": charge.pool.zone,
        "instance_type": charge.pool.instance_type,
        "market": charge.market.value,
        "from": charge.from_at.isoformat() if charge.from_at else None,
        "to": charge.to_at.isoformat() if charge.to_at else None,
        "usd": charge.usd_micros / 1e6,
        "free": charge.free,
    }
