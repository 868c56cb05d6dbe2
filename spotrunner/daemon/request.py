"""Make the one request of an attempt: complete, so that a retry can send the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spotrunner.core.baked import Need
from spotrunner.core.boot import Boot, user_data
from spotrunner.core.catalogue import TYPES, Architecture
from spotrunner.core.ids import (
    TAG_ATTEMPT,
    TAG_HOME,
    TAG_INSTALLATION,
    TAG_JOB,
    client_token,
    home_tag,
)
from spotrunner.core.model import Attempt, JobSpec, LaunchRequest, Market, Pool, Refused
from spotrunner.ports import Image, LaunchRefused, Objects, Sites, Store

# The archive's URL has to live as long as a launch may be sent again, and a slow boot after it. It
# is an upper bound: a URL that temporary keys have signed (a role, SSO) dies with those keys, which
# may be any moment after the launch. The request has to stay the same bytes, so no fresher URL can
# follow; an instance that meets a dead one powers itself off, and is replaced like any that never
# reported. Keys of an IAM user keep it alive for all of this time.
URL_LIFETIME_S = 7200


@dataclass(frozen=True, kw_only=True)
class AgentArchive:
    """The agent's archive for one kind of CPU, in the home bucket, named by its digest."""

    key: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RequestMaker:
    """`archives` has one for the CPU of every type that a job may ask for; `image_mirrors` is
    region -> registry and path."""

    store: Store
    sites: Sites
    objects: Objects
    installation: str
    bucket: str
    home_region: str
    archives: Mapping[Architecture, AgentArchive]
    endpoint_url: str | None
    image_mirrors: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, attempt: Attempt) -> LaunchRequest:
        """Raises Unavailable (ask again later), NotAuthorized, Misconfigured, LaunchRefused (the
        zone cannot be used; others may)."""
        job = self.store.job(attempt.job_id)
        assert job is not None, f"{attempt.id} has no job"
        pool = attempt.offer.pool
        site = self.sites.site(pool.region)
        subnet_id = site.subnets.get(pool.zone)
        if subnet_id is None:
            raise LaunchRefused(Refused.OFFERING, f"there is no subnet in {pool.zone}: add one")
        image = self._image(job.spec, pool)
        return LaunchRequest(
            client_token=client_token(self.installation, attempt.id),
            pool=pool,
            market=attempt.offer.market,
            image_id=image.id,
            root_device=image.root_device,
            baked=image.baked,
            subnet_id=subnet_id,
            user_data=user_data(self._boot(attempt, pool.region)),
            disk_gib=job.spec.disk_gib,
            tags=(
                ("Name", f"spotrunner {attempt.id}"),
                (TAG_INSTALLATION, self.installation),
                (TAG_JOB, attempt.job_id),
                (TAG_ATTEMPT, attempt.id),
                (TAG_HOME, home_tag(self.bucket, self.home_region)),
            ),
            security_group_ids=site.security_group_ids,
            instance_profile=site.instance_profile,
            max_price_usd_micros=_bid(job.spec, attempt),
        )

    def _image(self, spec: JobSpec, pool: Pool) -> Image:
        named = dict(spec.amis).get(pool.region)
        need = Need(container=spec.image, disk_gib=spec.disk_gib)
        return self.sites.image(pool.region, pool.instance_type, named, need)

    def _boot(self, attempt: Attempt, region: str) -> Boot:
        archive = self.archives[TYPES[attempt.offer.pool.instance_type].architecture]
        return Boot(
            attempt=attempt.id,
            job=attempt.job_id,
            installation=self.installation,
            bucket=self.bucket,
            region=self.home_region,
            archive_url=self.objects.presigned(archive.key, URL_LIFETIME_S),
            archive_sha256=archive.sha256,
            first_step_s=attempt.first_paid_s,
            endpoint_url=self.endpoint_url,
            image_mirror=self.image_mirrors.get(region),
        )


def _bid(spec: JobSpec, attempt: Attempt) -> int | None:
    return spec.max_price_usd_micros if attempt.offer.market is Market.SPOT else None
