"""What machine images hold in the lab: of an instance's disk the agent and the names of docker's
images, which are all that an emulated docker has of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# Below an instance's root.
_KEPT = ("opt/spotrunner", ".lab/images.json")


class ImageDisks:
    """In a folder of the lab's. An image that it never saw (AWS's own) holds nothing."""

    def __init__(self, folder: Path) -> None:
        self._instances = folder / "instances"
        self._images = folder / "images"

    def keep(self, instance_id: str, image_id: str) -> None:
        """The instance's disk as it is now becomes the image's."""
        _carry(self._instances / instance_id, self._images / image_id)

    def copy(self, source_image_id: str, image_id: str) -> None:
        _carry(self._images / source_image_id, self._images / image_id)

    def drop(self, image_id: str) -> None:
        shutil.rmtree(self._images / image_id, ignore_errors=True)

    def restore(self, image_id: str, root: Path) -> None:
        """A new instance's disk begins as the image's."""
        _carry(self._images / image_id, root)


def _carry(source: Path, target: Path) -> None:
    for name in _KEPT:
        if (source / name).is_dir():
            # Linked, not copied: nobody writes into what the agent is unpacked to.
            shutil.copytree(
                source / name,
                target / name,
                symlinks=True,
                dirs_exist_ok=True,
                copy_function=os.link,
            )
        elif (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
