"""What a port answers instead of a result: errors by meaning."""

from __future__ import annotations

from spotrunner.core.model import Refused


class PortError(Exception):
    """Anything that a port can answer instead of a result."""


class GaveWay(PortError):
    """Left in the middle, since whoever asked for it said that something else is more urgent."""


class Unavailable(PortError):
    """The other side did not answer, or said that it cannot now. Nothing is known of the outcome
    of a *write* then; a read may simply be repeated later."""


class Throttled(Unavailable):
    """The other side asks for fewer calls. The call had no effect."""


class NotAuthorized(PortError):
    """Credentials or permissions do not allow it. Never retried hot; the message names the fix."""


class Misconfigured(PortError):
    """What was asked for cannot be had as asked: a wrong name, image, subnet, bucket."""


class LaunchRefused(PortError):
    """EC2 gave nothing, for good: this request will not turn into an instance later.

    `meaning` decides the cool-down; `hint_zones` are zones that EC2 named as having capacity.
    """

    def __init__(self, meaning: Refused, message: str, hint_zones: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.meaning = meaning
        self.hint_zones = hint_zones


class OutcomeUnknown(PortError):
    """The answer to a launch was lost: it may have happened. Look it up, or send it again as is."""


class TokenMismatch(PortError):
    """The token was used before with other bytes, so it *was* launched: look it up."""


class NotFound(PortError):
    """No object has this key."""


class PreconditionFailed(PortError):
    """A conditional write was refused (412 or 409). Read before you judge: with retries below us
    the refusal may be the echo of our own success."""


class StaleEpoch(PortError):
    """Another daemon leads now; this one may not write any more."""


class Undeliverable(PortError):
    """A channel did not take an alert: it can be sent again later. The message names the channel
    and the trouble, and nothing that is secret of it."""
