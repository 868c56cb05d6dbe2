"""The trainer's image: there already, or pulled, also from a registry that asks for a password."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.agent.docker import TIMEOUT_S, Docker
from spotrunner.agent.runs import Unanswered
from spotrunner.ports import Clock, NotAuthorized, Registries

# Twenty gigabytes over a slow network.
PULL_TIMEOUT_S = 3600.0
# A password is asked for anew when it is this close to its end.
_FRESH = dt.timedelta(minutes=10)
_ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
# What a registry, or docker itself, answers about an image that no other machine would get either.
_NO_SUCH_IMAGE = re.compile(
    r"manifest unknown|name unknown|manifest for .* not found|no matching manifest"
    r"|repository .* not found|failed to resolve reference .*: not found"
    r"|invalid reference format|pull access denied|requested access to the resource is denied",
    re.IGNORECASE,
)


_NO_ROOM = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_GB = 1_000_000_000


class NoImage(Exception):
    """There is no such image, or not for us."""


class PullFailed(Exception):
    """The image did not come this time: a rate limit, the network, the disk."""


class NoRoom(PullFailed):
    """The disk is full of it."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """`name` is what docker knows it by, `digest` what it surely is; `baked`: nobody had to ask a
    registry for it."""

    name: str
    digest: str
    baked: bool


@dataclass(kw_only=True)
class Images:
    """`mirror` is a registry and a path that may have the image too; "" where there is none.
    `pulled` remembers, for the next agent, which names were not there from the beginning."""

    docker: Docker
    registries: Registries
    clock: Clock
    pulled: Path
    mirror: str = ""
    _logins: dict[str, dt.datetime] = field(default_factory=dict, init=False)

    def fetch(self, image: str) -> Image:
        """Raises NoImage or PullFailed with docker's own words, and what the registry's port
        raises."""
        names = [f"{self.mirror.rstrip('/')}/{image}"] if self.mirror else []
        for name in (*names, image):
            digest = self._digest(name)
            if digest is not None:
                return Image(name=name, digest=digest, baked=name not in self._pulled())
        for name in names:
            try:
                return self._pull(name)
            except NoImage:
                continue  # a mirror need not have everything
        return self._pull(image)

    def _pull(self, name: str) -> Image:
        self._log_in(name)
        # Before the pull: an agent that dies in it must not take its layers for baked ones.
        self.pulled.write_text("\n".join({*self._pulled(), name}))
        free = shutil.disk_usage(self.pulled.parent).free
        try:
            said = self.docker("pull", "--quiet", name, timeout_s=PULL_TIMEOUT_S)
        except Unanswered as error:
            raise PullFailed(str(error)) from None
        if said.code != 0 and _NO_ROOM.search(said.error):
            raise NoRoom(
                f"docker pull {name}: the image needs more than the {free / _GB:.1f} GB that were"
                f" free: {said.error[-400:]}"
            )
        if said.code != 0:
            kind = NoImage if _NO_SUCH_IMAGE.search(said.error) else PullFailed
            raise kind(f"docker pull {name}: {said.error[-400:]}{_hint(name, said.error)}")
        return Image(name=name, digest=self._digest(name) or "", baked=False)

    def _digest(self, name: str) -> str | None:
        """None where docker has no such image, or gives no answer."""
        try:
            said = self.docker("image", "inspect", name)
        except Unanswered:
            return None
        return _digest(said.out, name) if said.code == 0 else None

    def _pulled(self) -> list[str]:
        return self.pulled.read_text().splitlines() if self.pulled.exists() else []

    def _log_in(self, name: str) -> None:
        """Where it is a registry of AWS's; others are asked without a name."""
        registry = name.partition("/")[0]
        found = _ECR.fullmatch(registry)
        if found is None or self._is_fresh(registry):
            return
        try:
            login = self.registries.login(found["region"])
        except NotAuthorized as error:
            # It is no different on the next machine, and this one is paid while it asks.
            raise NoImage(str(error)) from None
        try:
            said = self.docker(
                *("login", "--username", login.user, "--password-stdin", registry),
                given=login.password,
                timeout_s=3 * TIMEOUT_S,
            )
        except Unanswered as error:
            raise PullFailed(str(error)) from None
        if said.code != 0:
            raise PullFailed(f"docker login {registry}: {said.error[-400:]}")
        self._logins[registry] = login.expires_at

    def _is_fresh(self, registry: str) -> bool:
        expires_at = self._logins.get(registry)
        return expires_at is not None and self.clock.now() + _FRESH < expires_at


def _digest(text: str, name: str) -> str:
    """What the registry knows the image by; its own id where it never was in one."""
    found = json.loads(text)[0]
    repository = _repository(name)
    known = dict(it.rpartition("@")[::2] for it in found.get("RepoDigests") or ())
    digest: str = known.get(repository) or next(iter(known.values()), "") or found["Id"]
    return digest


def _repository(name: str) -> str:
    """Without tag and digest; a colon before the last slash belongs to a port."""
    bare = name.partition("@")[0]
    path, slash, last = bare.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def _hint(name: str, said: str) -> str:
    """What to grant, where an ECR says no."""
    denied = re.search(r"denied|not authorized|no basic auth", said, re.IGNORECASE)
    if denied is None or _ECR.match(name) is None:
        return ""
    return (
        " (the instances' role needs ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on this"
        " repository)"
    )
