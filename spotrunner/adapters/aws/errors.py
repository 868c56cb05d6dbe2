"""What AWS's error codes mean. No code leaves this file but in the text of a message.

Sources: EC2 "Error codes for the Amazon EC2 API", S3 "Error responses", the texts that EC2 sends
(public logs), and botocore's exceptions.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

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


class NotModified(PortError):
    """The object still has the etag that was asked about; only adapters/aws/objects sees it."""


@contextlib.contextmanager
def by_meaning() -> Iterator[None]:
    """Raise what AWS and botocore say as the ports' errors."""
    try:
        yield
    except (boto.ClientError, boto.BotoCoreError, ResponseParserError) as error:
        raise call_error(error) from error


@contextlib.contextmanager
def launch_by_meaning() -> Iterator[None]:
    """The same for RunInstances, where a missing answer and a refusal are things of their own."""
    try:
        yield
    except (boto.ClientError, boto.BotoCoreError, ResponseParserError) as error:
        raise launch_error(error) from error


def call_error(error: Exception) -> PortError:
    """Of any call but a launch."""
    if not isinstance(error, boto.ClientError):
        return _transport_error(error)
    code, message = _code(error), _text(error)
    known = _CALLS.get(code)
    if known is None and code.endswith(".NotFound"):
        known = NotFound
    if known is NotAuthorized:
        return _not_authorized(error)
    if known is not None:
        return known(message)
    if _status(error) >= 500:
        return Unavailable(message)
    if _status(error) in (401, 403):
        return _not_authorized(error)
    return Misconfigured(message)


def launch_error(error: Exception) -> PortError:
    """Of RunInstances. What is not surely a refusal may have launched something."""
    if not isinstance(error, boto.ClientError):
        known = _transport_error(error)
        return OutcomeUnknown(str(known)) if isinstance(known, Unavailable) else known
    code, message = _code(error), _text(error)
    if code in _TOKEN_USED:
        return TokenMismatch(message)
    meaning = _refused(code, message)
    if meaning is not None:
        return LaunchRefused(meaning, _with_fix(code, message), hint_zones(message))
    known = call_error(error)
    if isinstance(known, (Throttled, NotAuthorized)):
        return known
    if isinstance(known, Unavailable):
        return OutcomeUnknown(message)
    # All others of EC2's many codes say that the request cannot be had as it stands.
    return LaunchRefused(Refused.CONFIG, message)


def hint_zones(message: str) -> tuple[str, ...]:
    """The zones that EC2 names as having what it refused elsewhere."""
    tail = message.partition(" choosing ")[2]
    return tuple(re.findall(r"\b[a-z]{2,}(?:-[a-z]+)+-\d[a-z]\b", tail))


def ended_by(reason_code: str) -> EndedBy:
    """What the code of an instance's StateReason says of its end."""
    if reason_code in _ENDS:
        return _ENDS[reason_code]
    if reason_code.startswith("Server.Spot"):
        return EndedBy.EC2
    return EndedBy.FAULT if reason_code.startswith("Server.") else EndedBy.UNKNOWN


def spot_ended_by(status_code: str) -> EndedBy:
    """What the status of its spot request says of an instance that EC2 took: by-price is one,
    no-capacity, marked-for-termination and all others are capacity that EC2 wants back."""
    return EndedBy.PRICE if status_code.endswith("-by-price") else EndedBy.EC2


# -- the table ---------------------------------------------------------------------------------

_LAUNCHES: Mapping[str, Refused] = {
    "InsufficientInstanceCapacity": Refused.CAPACITY,
    "InsufficientHostCapacity": Refused.CAPACITY,
    "InsufficientReservedInstanceCapacity": Refused.CAPACITY,
    "InsufficientCapacity": Refused.CAPACITY,
    "InsufficientVolumeCapacity": Refused.CAPACITY,
    "InsufficientAddressCapacity": Refused.CAPACITY,
    "UnfulfillableCapacity": Refused.CAPACITY,
    # A full subnet is a zone's matter: the next zone has another one.
    "InsufficientFreeAddressesInSubnet": Refused.CAPACITY,
    "SpotMaxPriceTooLow": Refused.PRICE,
    "MaxSpotInstanceCountExceeded": Refused.QUOTA,
    "VcpuLimitExceeded": Refused.QUOTA,
    "InstanceLimitExceeded": Refused.QUOTA,
    "MaxFleetCountExceeded": Refused.QUOTA,
    "VolumeLimitExceeded": Refused.QUOTA,
    "Unsupported": Refused.OFFERING,
    "UnsupportedOperation": Refused.OFFERING,
    "VolumeTypeNotAvailableInZone": Refused.OFFERING,
    "UnauthorizedOperation": Refused.PERMISSION,
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": Refused.PERMISSION,
    "OptInRequired": Refused.PERMISSION,
    "PendingVerification": Refused.PERMISSION,
    "Blocked": Refused.PERMISSION,
    "OperationNotPermitted": Refused.PERMISSION,
}
# Codes that say several things: (code, what the text must match, meaning).
_BY_TEXT = (
    ("InvalidParameterCombination", "not supported", Refused.OFFERING),
    ("InvalidParameterValue", "for InstanceType", Refused.OFFERING),
)
_TOKEN_USED = ("IdempotentParameterMismatch", "IdempotentInstanceTerminated")

_CALLS: Mapping[str, type[PortError]] = {
    **dict.fromkeys(
        (
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "EC2ThrottledException",
            "BandwidthLimitExceeded",
            # Too many different questions for placement scores within a day.
            "MaxConfigLimitExceeded",
            "SlowDown",
            "429",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "UnauthorizedOperation",
            "AuthFailure",
            "AccessDenied",
            "AccessDeniedException",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "InvalidToken",
            "ExpiredToken",
            "ExpiredTokenException",
            "TokenRefreshRequired",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "OptInRequired",
            "OperationNotPermitted",
            "AllAccessDisabled",
            "AccountProblem",
            "NotSignedUp",
        ),
        NotAuthorized,
    ),
    **dict.fromkeys(
        ("NoSuchKey", "404", "InvalidInstanceID.Malformed", "InvalidAMIID.Unavailable"), NotFound
    ),
    **dict.fromkeys(
        ("PreconditionFailed", "412", "ConditionalRequestConflict", "OperationAborted", "409"),
        PreconditionFailed,
    ),
    "304": NotModified,
    # The parts are gone: our own completion may have eaten them before its answer was lost.
    "NoSuchUpload": Unavailable,
    # What arrived is not what was sent, or not all of it: sent again it may be.
    "InvalidPart": Unavailable,
    "BadDigest": Unavailable,
    "IncompleteBody": Unavailable,
    "XAmzContentSHA256Mismatch": Unavailable,
    "RequestTimeout": Unavailable,
    "InternalError": Unavailable,
    "InternalFailure": Unavailable,
    "ServiceUnavailable": Unavailable,
    "Unavailable": Unavailable,
    "NoSuchBucket": Misconfigured,
    "ParameterNotFound": NotFound,
    "ParameterVersionNotFound": NotFound,
    "ResourceNotFoundException": NotFound,  # Secrets Manager's
}

_ENDS: Mapping[str, EndedBy] = {
    "Client.UserInitiatedShutdown": EndedBy.US,
    "Client.UserInitiatedHibernate": EndedBy.US,
    "Client.InstanceInitiatedShutdown": EndedBy.ITSELF,
    # It died while it started: a disk that could not be decrypted, attached or counted.
    "Client.InternalError": EndedBy.FAULT,
    "Client.VolumeLimitExceeded": EndedBy.FAULT,
    "Client.InvalidSnapshot.NotFound": EndedBy.FAULT,
}

_FIXES: Mapping[str, str] = {
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (
        "create the role once: aws iam create-service-linked-role --aws-service-name"
        " spot.amazonaws.com"
    ),
    "MaxSpotInstanceCountExceeded": (
        "ask for a higher vCPU quota of spot instances (Service Quotas; G and VT: L-3819A6DF);"
        " new accounts have 0"
    ),
    "VcpuLimitExceeded": (
        "ask for a higher vCPU quota (Service Quotas; G and VT on-demand: L-DB2E81BA); new accounts"
        " have 0"
    ),
    "OptInRequired": "enable the region for the account",
    "UnauthorizedOperation": "allow it in the policy of these credentials",
    "AccessDenied": "allow it in the policy of these credentials, or of the bucket",
    "AccessDeniedException": "allow it in the policy of these credentials",
    "403": "allow it in the policy of these credentials, or of the bucket",
    "RequestTimeTooSkewed": "set this machine's clock",
    "RequestExpired": "set this machine's clock, or renew the credentials",
    "ExpiredToken": "renew the credentials",
    "ExpiredTokenException": "renew the credentials",
    "InvalidAccessKeyId": "check the credentials",
    "InvalidClientTokenId": "check the credentials",
    "SignatureDoesNotMatch": "check the credentials",
    "AuthFailure": "check the credentials, and whether the account has enabled the region",
    "NoSuchBucket": "check the bucket's name",
}


# -- reading an error --------------------------------------------------------------------------


def _refused(code: str, message: str) -> Refused | None:
    for with_code, text, meaning in _BY_TEXT:
        if code == with_code and text in message:
            return meaning
    return _LAUNCHES.get(code)


def _transport_error(error: Exception) -> PortError:
    """Of errors that botocore makes itself: no credentials, no connection, no usable answer."""
    if isinstance(error, _NO_CREDENTIALS):
        return NotAuthorized(
            f"{error}: give AWS credentials by the environment, a profile or an instance role"
        )
    if isinstance(error, _NEVER_SENT):
        return Misconfigured(str(error))
    return Unavailable(str(error))


_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.SSOError,
    boto.TokenRetrievalError,
)
_NEVER_SENT = (
    boto.ParamValidationError,
    boto.ValidationError,
    boto.BaseEndpointResolverError,
    boto.EndpointProviderError,
    boto.UnknownServiceError,
    boto.ConfigParseError,
)


def _not_authorized(error: boto.ClientError) -> NotAuthorized:
    return NotAuthorized(_with_fix(_code(error), f"{error.operation_name}: {_text(error)}"))


def _with_fix(code: str, message: str) -> str:
    return f"{message.rstrip('.')}: {_FIXES[code]}" if code in _FIXES else message


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _text(error: boto.ClientError) -> str:
    # EC2 adds pages of an encoded explanation that only `aws sts decode-…` can read.
    message = str(error.response.get("Error", {}).get("Message", "")).partition(" Encoded auth")[0]
    return f"{_code(error)}: {message}"


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
