"""The table of AWS's codes, with the texts that AWS sends."""

from __future__ import annotations

import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from spotrunner.adapters.aws.errors import (
    NotModified,
    call_error,
    ended_by,
    hint_zones,
    launch_error,
)
from spotrunner.core.model import EndedBy, Refused
from spotrunner.ports import (
    LaunchRefused,
    Misconfigured,
    NotAuthorized,
    NotFound,
    OutcomeUnknown,
    PortError,
    PreconditionFailed,
    Throttled,
    TokenMismatch,
    Unavailable,
)


def said(code: str, message: str = "", status: int = 400) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "r-1",
                "HostId": "",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        },
        "RunInstances",
    )


NO_CAPACITY = (
    "We currently do not have sufficient g4dn.2xlarge capacity in the Availability Zone you"
    " requested (eu-west-1a). Our system will be working on provisioning additional capacity. You"
    " can currently get g4dn.2xlarge capacity by not specifying an Availability Zone in your"
    " request or choosing eu-west-1b, eu-west-1c."
)
NOT_OFFERED = (
    "Your requested instance type (p3.2xlarge) is not supported in your requested Availability"
    " Zone (us-gov-east-1a). Please retry your request by not specifying an Availability Zone or"
    " choosing us-gov-east-1b."
)
QUOTA = (
    "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the"
    " instance bucket that the specified instance type belongs to."
)
LINKED_ROLE = "The provided credentials do not have permission to create the service-linked role"

REFUSALS = [
    ("InsufficientInstanceCapacity", NO_CAPACITY, 500, Refused.CAPACITY),
    ("InsufficientInstanceCapacity", "There is no Spot capacity available", 500, Refused.CAPACITY),
    ("InsufficientHostCapacity", "", 500, Refused.CAPACITY),
    ("UnfulfillableCapacity", "", 500, Refused.CAPACITY),
    ("InsufficientReservedInstanceCapacity", "", 500, Refused.CAPACITY),
    ("InsufficientFreeAddressesInSubnet", "", 400, Refused.CAPACITY),
    ("SpotMaxPriceTooLow", "Your Spot request price of 0.02 is lower", 400, Refused.PRICE),
    ("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded", 400, Refused.QUOTA),
    ("VcpuLimitExceeded", QUOTA, 400, Refused.QUOTA),
    ("InstanceLimitExceeded", "", 400, Refused.QUOTA),
    ("Unsupported", NOT_OFFERED, 400, Refused.OFFERING),
    ("InvalidParameterCombination", NOT_OFFERED, 400, Refused.OFFERING),
    (
        "InvalidParameterValue",
        "Invalid value 'p2.large' for InstanceType.",
        400,
        Refused.OFFERING,
    ),
    ("UnauthorizedOperation", "You are not authorized.", 403, Refused.PERMISSION),
    (
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        LINKED_ROLE,
        403,
        Refused.PERMISSION,
    ),
    ("OptInRequired", "", 403, Refused.PERMISSION),
    ("PendingVerification", "", 400, Refused.PERMISSION),
    ("InvalidParameterValue", "Invalid IAM Instance Profile name", 400, Refused.CONFIG),
    ("InvalidParameterCombination", "The parameter groupName cannot be used", 400, Refused.CONFIG),
    ("InvalidUserData.Malformed", "User data is limited to 16384 bytes", 400, Refused.CONFIG),
    ("InvalidAMIID.NotFound", "", 400, Refused.CONFIG),
    ("InvalidSubnetID.NotFound", "", 400, Refused.CONFIG),
    ("InvalidGroup.NotFound", "", 400, Refused.CONFIG),
    ("ACodeOfNextYear", "", 400, Refused.CONFIG),
]


@pytest.mark.parametrize(("code", "message", "status", "meaning"), REFUSALS)
def test_a_refused_launch(code: str, message: str, status: int, meaning: Refused) -> None:
    error = launch_error(said(code, message, status))
    assert isinstance(error, LaunchRefused)
    assert error.meaning is meaning
    assert str(error).startswith(code)


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (said("IdempotentParameterMismatch"), TokenMismatch),
        (said("IdempotentInstanceTerminated"), TokenMismatch),
        (said("RequestLimitExceeded", status=503), Throttled),
        (said("InternalError", status=500), OutcomeUnknown),
        (said("Unavailable", status=503), OutcomeUnknown),
        (said("ACodeOfNextYear", status=500), OutcomeUnknown),
        (said("", status=502), OutcomeUnknown),
        (said("AuthFailure", status=401), NotAuthorized),
        (said("ExpiredToken"), NotAuthorized),
        (boto.ReadTimeoutError(endpoint_url="http://x"), OutcomeUnknown),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), OutcomeUnknown),
        (boto.EndpointConnectionError(endpoint_url="http://x"), OutcomeUnknown),
        (boto.ConnectionClosedError(endpoint_url="http://x"), OutcomeUnknown),
        (ResponseParserError("half a document"), OutcomeUnknown),
        (boto.NoCredentialsError(), NotAuthorized),
        (boto.ParamValidationError(report="x"), Misconfigured),
    ],
)
def test_a_launch_that_was_not_simply_refused(error: Exception, means: type[PortError]) -> None:
    assert type(launch_error(error)) is means


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (said("RequestLimitExceeded", status=503), Throttled),
        (said("SlowDown", status=503), Throttled),
        (said("MaxConfigLimitExceeded"), Throttled),
        (said("ThrottlingException"), Throttled),
        (said("InternalError", status=500), Unavailable),
        (said("", status=503), Unavailable),
        (said("RequestTimeout"), Unavailable),
        (said("UnauthorizedOperation", status=403), NotAuthorized),
        (said("AccessDenied", status=403), NotAuthorized),
        (said("403", "Forbidden", status=403), NotAuthorized),
        (said("ExpiredToken"), NotAuthorized),
        (said("RequestTimeTooSkewed", status=403), NotAuthorized),
        (said("NoSuchKey", status=404), NotFound),
        (said("404", "Not Found", status=404), NotFound),
        (said("InvalidInstanceID.NotFound"), NotFound),
        (said("InvalidInstanceID.Malformed"), NotFound),
        (said("NoSuchBucket", status=404), Misconfigured),
        (said("PermanentRedirect", status=301), Misconfigured),
        (said("PreconditionFailed", status=412), PreconditionFailed),
        (said("412", status=412), PreconditionFailed),
        (said("ConditionalRequestConflict", status=409), PreconditionFailed),
        (said("304", "Not Modified", status=304), NotModified),
        (boto.ReadTimeoutError(endpoint_url="http://x"), Unavailable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), Unavailable),
        (boto.CredentialRetrievalError(provider="iam-role", error_msg="x"), Unavailable),
        (boto.NoCredentialsError(), NotAuthorized),
        (boto.ProfileNotFound(profile="x"), NotAuthorized),
    ],
)
def test_any_other_call(error: Exception, means: type[PortError]) -> None:
    assert type(call_error(error)) is means


def test_zones_that_ec2_names() -> None:
    assert hint_zones(NO_CAPACITY) == ("eu-west-1b", "eu-west-1c")
    assert hint_zones(NOT_OFFERED) == ("us-gov-east-1b",)
    assert hint_zones("There is no Spot capacity available that matches your request.") == ()
    refused = launch_error(said("InsufficientInstanceCapacity", NO_CAPACITY, 500))
    assert isinstance(refused, LaunchRefused)
    assert refused.hint_zones == ("eu-west-1b", "eu-west-1c")


def test_what_a_person_must_do_is_said() -> None:
    role = launch_error(said("AuthFailure.ServiceLinkedRoleCreationNotPermitted", LINKED_ROLE, 403))
    assert "create-service-linked-role --aws-service-name spot.amazonaws.com" in str(role)
    quota = launch_error(said("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"))
    assert "L-3819A6DF" in str(quota)
    denied = call_error(said("UnauthorizedOperation", "No. Encoded authorization failure: xyz"))
    assert "RunInstances" in str(denied)
    assert "xyz" not in str(denied)
    assert "credentials" in str(call_error(boto.NoCredentialsError()))


@pytest.mark.parametrize(
    ("code", "by"),
    [
        ("Server.SpotInstanceTermination", EndedBy.EC2),
        ("Server.SpotInstanceShutdown", EndedBy.EC2),
        ("Server.InternalError", EndedBy.FAULT),
        ("Server.InsufficientInstanceCapacity", EndedBy.FAULT),
        ("Client.InternalError", EndedBy.FAULT),
        ("Client.UserInitiatedShutdown", EndedBy.US),
        ("Client.InstanceInitiatedShutdown", EndedBy.ITSELF),
        ("Client.Whatever", EndedBy.UNKNOWN),
        ("", EndedBy.UNKNOWN),
    ],
)
def test_who_ended_an_instance(code: str, by: EndedBy) -> None:
    assert ended_by(code) is by
