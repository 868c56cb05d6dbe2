"""The keys of a job file that say in what its trainer runs, and as whom."""

from __future__ import annotations

from spotrunner.core.model import NO_IMAGE


def root_problem(as_root: bool, image: str | None) -> str | None:
    """Why this job's trainer cannot be root; None if it can. `image` is None where it is wrong."""
    if as_root and image == NO_IMAGE:
        return (
            f"without a container (image: {NO_IMAGE}) root would be root of the machine, with the"
            " instance's own credentials: leave as_root out, or name an image"
        )
    return None
