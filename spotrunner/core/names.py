"""Names that people give to jobs, sweeps and owners: what they are made of."""

from __future__ import annotations

import re

# Whose a job is that nobody says anything of.
NOBODY = "nobody"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def name_problem(value: str) -> str | None:
    """Why this is no name, with the nearest one that is; None if it is one."""
    if _NAME.fullmatch(value):
        return None
    near = nearest_name(value)
    return f"expected 1 to 32 of a-z 0-9 -, starting with a letter, found {value!r}" + (
        f"; nearest: {near}" if near else ""
    )


def nearest_name(text: str) -> str:
    """The same in the letters of a name; empty where nothing is left of it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).lstrip("-0123456789")[:32].strip("-")
