"""Why instances end: EC2's StateReason, StateTransitionReason and spot request statuses."""

from __future__ import annotations

import datetime as dt

from spotrunner.sim.values import Reason

# (status code, message) of a spot request
FULFILLED = ("fulfilled", "Your spot request is fulfilled.")
NO_CAPACITY = (
    "instance-terminated-no-capacity",
    "Your Spot instance was terminated because there is no Spot capacity available that matches"
    " your request.",
)
BY_PRICE = (
    "instance-terminated-by-price",
    "Your Spot instance was terminated because your Spot request price is lower than the current"
    " Spot price.",
)
BY_USER = (
    "instance-terminated-by-user",
    "Spot Instance terminated due to user-initiated termination.",
)
BY_SERVICE = (
    "instance-terminated-by-service",
    "Your Spot instance was terminated by the service.",
)
SYSTEM_ERROR = (
    "system-error",
    "Your Spot request failed because of an unexpected system error.",
)
CANCELLED = (
    "request-canceled-and-instance-running",
    "Your Spot request is canceled, but your instance is still running.",
)

PENDING = Reason(code="pending", message="pending")
SPOT_TAKEN = Reason(
    code="Server.SpotInstanceTermination",
    message="Server.SpotInstanceTermination: Spot instance termination",
    transition="Server.SpotInstanceTermination",
)
FROM_INSIDE = Reason(
    code="Client.InstanceInitiatedShutdown",
    message="Client.InstanceInitiatedShutdown: Instance initiated shutdown",
)
_DEATHS = {
    "Server.InternalError": "Internal error on launch",
    "Server.InsufficientInstanceCapacity": "Insufficient capacity to satisfy the launch request",
    "Client.VolumeLimitExceeded": "Volume limit exceeded",
    "Client.InternalError": "Client error on launch",
}


def death(code: str) -> Reason:
    """EC2's own fault, or one that shows only after the answer to the launch."""
    text = f"{code}: {_DEATHS.get(code, 'Instance ended')}"
    return Reason(code=code, message=text, transition=code)


def by_user(at: dt.datetime) -> Reason:
    """TerminateInstances: the one case whose time EC2 tells."""
    return Reason(
        code="Client.UserInitiatedShutdown",
        message="Client.UserInitiatedShutdown: User initiated shutdown",
        transition=f"User initiated ({at:%Y-%m-%d %H:%M:%S} GMT)",
    )
