"""EC2's refusals, word by word: codes, texts and HTTP statuses as AWS sends them."""

from __future__ import annotations

from collections.abc import Sequence

from spotrunner.core.model import Market
from spotrunner.sim.values import ApiError


def throttled() -> ApiError:
    return ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)


def server_error() -> ApiError:
    return ApiError("InternalError", "An internal error has occurred", 500)


def no_capacity(market: Market, instance_type: str, zone: str, hints: Sequence[str]) -> ApiError:
    """EC2 names other zones for on-demand only, and only zones that could take it."""
    if market is Market.SPOT:
        text = "There is no Spot capacity available that matches your request."
    else:
        text = (
            f"We currently do not have sufficient {instance_type} capacity in the Availability"
            f" Zone you requested ({zone}). Our system will be working on provisioning additional"
            f" capacity. You can currently get {instance_type} capacity by not specifying an"
            " Availability Zone in your request"
        )
        text += f" or choosing {', '.join(hints)}." if hints else "."
    return ApiError("InsufficientInstanceCapacity", text, 500)


def price_too_low(max_micros: int, price_micros: int) -> ApiError:
    return ApiError(
        "SpotMaxPriceTooLow",
        f"Your Spot request price of {max_micros / 1e6:g} is lower than the minimum required Spot"
        f" request fulfillment price of {price_micros / 1e6:g}.",
    )


def over_quota(market: Market, limit: int) -> ApiError:
    if market is Market.SPOT:
        return ApiError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    return ApiError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {limit} allows for"
        " the instance bucket that the specified instance type belongs to. Please visit"
        " http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    )


def not_offered(instance_type: str, zone: str, hints: Sequence[str]) -> ApiError:
    text = (
        f"Your requested instance type ({instance_type}) is not supported in your requested"
        f" Availability Zone ({zone})."
    )
    if hints:
        text += (
            " Please retry your request by not specifying an Availability Zone or choosing"
            f" {', '.join(hints)}."
        )
    return ApiError("Unsupported", text)


def token_mismatch() -> ApiError:
    return ApiError(
        "IdempotentParameterMismatch",
        "Arguments on this idempotent request are inconsistent with arguments used in previous"
        " request(s).",
    )


def unknown_instances(ids: Sequence[str]) -> ApiError:
    if len(ids) == 1:
        text = f"The instance ID '{ids[0]}' does not exist"
    else:
        text = f"The instance IDs '{', '.join(ids)}' do not exist"
    return ApiError("InvalidInstanceID.NotFound", text)


def unknown_spot_request(id_: str) -> ApiError:
    return ApiError(
        "InvalidSpotInstanceRequestID.NotFound",
        f"The spot instance request ID '{id_}' does not exist",
    )


def malformed_instance(id_: str) -> ApiError:
    return ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{id_}"')


def unknown_type(name: str) -> ApiError:
    return ApiError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")


def unknown_image(id_: str) -> ApiError:
    return ApiError("InvalidAMIID.NotFound", f"The image id '[{id_}]' does not exist")


def unavailable_image(id_: str) -> ApiError:
    return ApiError("InvalidAMIID.Unavailable", f"The image ID '{id_}' is not available")


def not_your_image(id_: str) -> ApiError:
    return ApiError("AuthFailure", f"Not authorized for image:{id_}", 403)


def bad_image_name() -> ApiError:
    return ApiError(
        "InvalidAMIName.Malformed",
        "AMI names must be between 3 and 128 characters long, and may contain letters, numbers,"
        " '(', ')', '.', '-', '/' and '_'",
    )


def image_name_taken(name: str, id_: str) -> ApiError:
    return ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {id_}")


def source_not_available(id_: str, state: str) -> ApiError:
    return ApiError("InvalidRequest", f"The image {id_} cannot be copied while it is {state}")


def wrong_state(instance_id: str, state: str) -> ApiError:
    return ApiError(
        "IncorrectInstanceState",
        f"The instance '{instance_id}' is not in a state from which an image can be made ({state})",
    )


def small_disk(disk_gib: int, snapshot_id: str, least_gib: int) -> ApiError:
    return ApiError(
        "InvalidBlockDeviceMapping",
        f"Volume of size {disk_gib}GB is smaller than snapshot '{snapshot_id}', expect size >="
        f" {least_gib}GB",
    )


def unknown_snapshot(id_: str) -> ApiError:
    return ApiError("InvalidSnapshot.NotFound", f"The snapshot '{id_}' does not exist.")


def snapshot_in_use(id_: str, image_id: str) -> ApiError:
    return ApiError(
        "InvalidSnapshot.InUse", f"The snapshot {id_} is currently in use by {image_id}"
    )


def unknown_subnet(id_: str) -> ApiError:
    return ApiError("InvalidSubnetID.NotFound", f"The subnet ID '{id_}' does not exist")


def unknown_zone(name: str) -> ApiError:
    return ApiError("InvalidParameterValue", f"Invalid availability zone: [{name}]")


def unknown_group(id_: str) -> ApiError:
    return ApiError("InvalidGroup.NotFound", f"The security group '{id_}' does not exist")


def unknown_profile(name: str) -> ApiError:
    return ApiError(
        "InvalidParameterValue",
        f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance"
        " Profile name",
    )


def long_user_data() -> ApiError:
    return ApiError("InvalidUserData.Malformed", "User data is limited to 16384 bytes")


def bad_parameter(text: str) -> ApiError:
    return ApiError("InvalidParameterValue", text)


def unknown_filter(name: str) -> ApiError:
    return ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
