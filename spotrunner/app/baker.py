"""On the instance whose disk becomes a machine image: `python -m spotrunner.app.baker CONTAINER
MIRROR FOLDER ENDPOINT`. Pulls the container's image as the agent would and prints what came of it,
as one line of JSON: {"digest": …} or {"failed": …}. FOLDER is for passwords, and goes before the
image is made; ENDPOINT takes the place of AWS's own (the lab), "" does not.

Names concrete adapters, and nothing that the agent's archive does not hold (app/archive).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.registry import EcrRegistries
from spotrunner.adapters.aws.session import IMDS_URL, Aws, InstanceRole
from spotrunner.agent.docker import Docker
from spotrunner.agent.images import Image, Images, NoImage, PullFailed
from spotrunner.agent.runs import Unanswered
from spotrunner.app import logs
from spotrunner.ports import NotAuthorized, PortError

# docker may still be starting, and registries have their moments: four minutes of tries.
TRIES = 25
TRY_EVERY_S = 10.0

_log = structlog.get_logger(__name__)


def main(arguments: list[str]) -> int:
    logs.configure(sys.stderr)
    container, mirror, folder, endpoint_url = arguments
    Path(folder).mkdir(parents=True, exist_ok=True)
    docker = Docker(config=Path(folder) / "docker")
    # docker can give a tag to what came from a mirror, but not a digest of another repository: a
    # job that names one would not find it.
    mirror = "" if "@" in container else mirror
    images = _images(docker, mirror, Path(folder), endpoint_url or None)
    said = bake(images, docker, container, threading.Event().wait)
    sys.stdout.write(json.dumps(said) + "\n")
    return 0 if "digest" in said else 1


def _images(docker: Docker, mirror: str, folder: Path, endpoint_url: str | None) -> Images:
    clock = ServerClock()
    imds_url = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or IMDS_URL
    role = InstanceRole(clock, imds_url)
    aws = Aws(clock=clock, endpoint_url=endpoint_url, instance_role=role)
    return Images(
        docker=docker,
        registries=EcrRegistries(aws),
        clock=clock,
        pulled=folder / "pulled",
        mirror=mirror,
    )


def bake(
    images: Images, docker: Docker, container: str, pause: Callable[[float], object]
) -> dict[str, str]:
    """What to tell. Under its own name it is there in every region, whatever mirror it came by."""
    try:
        image = _fetch(images, container, pause)
        if image.name != container:
            tagged = docker("tag", image.name, container)
            if tagged.code != 0:
                return {"failed": f"docker tag {container}: {tagged.error[-400:]}"}
    except (NoImage, PullFailed, Unanswered, PortError) as error:
        return {"failed": str(error)}
    return {"digest": image.digest, "name": image.name}


def _fetch(images: Images, container: str, pause: Callable[[float], object]) -> Image:
    for left in reversed(range(TRIES)):
        try:
            return images.fetch(container)
        except (NoImage, NotAuthorized):
            raise
        except (PullFailed, PortError) as error:
            if not left:
                raise
            _log.warning("not pulled yet", why=str(error))
            pause(TRY_EVERY_S)
    raise AssertionError("the last try returns or raises")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
