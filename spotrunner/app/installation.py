"""The installation: one bucket, one store, one id on every tag. Checked before anything runs."""

from __future__ import annotations

import contextlib
import json
import secrets

from spotrunner.ports import Misconfigured, NotFound, Objects, PreconditionFailed, Store

KEY = "installation.json"


def claim(objects: Objects, store: Store) -> str:
    """The id of this installation: the bucket's and the store's, which must agree; a new one where
    both are new. Raises Misconfigured when they belong to different installations, Unavailable."""
    stored = store.installation()
    found = _in_bucket(objects)
    if found is None:
        found = _write(objects, stored or secrets.token_hex(4))
    if stored is None:
        store.set_installation(found)
    elif stored != found:
        raise Misconfigured(
            f"this state is of installation {stored}, but the bucket is of {found}: a second"
            " daemon would fight the first over its instances. Use a bucket of its own, or the"
            " state that belongs to this one"
        )
    return found


def known(objects: Objects) -> str:
    """The id of the installation that keeps its things here. Raises Misconfigured where no daemon
    has ever worked with the bucket, Unavailable."""
    found = _in_bucket(objects)
    if found is None:
        raise Misconfigured("no daemon has worked with this bucket yet: start it once")
    return found


def _in_bucket(objects: Objects) -> str | None:
    try:
        body = objects.get(KEY).body
    except NotFound:
        return None
    try:
        return str(json.loads(body)["id"])
    except (ValueError, KeyError, TypeError):
        raise Misconfigured(f"{KEY} in the bucket is damaged: it has no id") from None


def _write(objects: Objects, installation: str) -> str:
    """Whoever writes first names it, as with every other object that two may want to create."""
    body = json.dumps({"id": installation}).encode()
    with contextlib.suppress(PreconditionFailed):
        objects.put(KEY, body, if_absent=True)
    found = _in_bucket(objects)
    assert found is not None, "it was written or was there"
    return found
