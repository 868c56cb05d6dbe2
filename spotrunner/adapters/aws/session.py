"""boto3 clients as this product wants them: bounded in time, few retries, one place for settings.

Time-outs and retries are chosen so that a call ends within a round: a call that got no answer is
better asked again by the next round than by a client that nobody can see.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import threading
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, DeferredRefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.utils import InstanceMetadataFetcher

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.signing import sign_by

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_ssm import SSMClient

# -- limits: a round acts for at most 10 s, and a launch is the slowest call that it makes
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
LAUNCH_TIMEOUT_S = 20.0
# Of parts of large files, eight of them on one line: to send one again makes a slow line slower.
TRANSFER_TIMEOUT_S = 45.0
ASIDE_TIMEOUT_S = 3.0
ATTEMPTS = 2
S3_ATTEMPTS = 3
CONNECTIONS = 16
# The price list is served from a few regions only.
PRICING_REGION = "us-east-1"

IMDS_URL = "http://169.254.169.254"
# Keys that IMDS hands out although they are at their end (an outage of AWS's, through which AWS
# honours them) are used for this long before they are asked for again; botocore does the same.
KEYS_EXTENDED_S = 1200
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


class Aws:
    """Makes each client once; safe to use from several threads.

    `endpoint_url` takes the place of all of AWS's endpoints. `clock` listens to every S3 answer,
    and requests are signed by it.
    `instance_role` takes the keys from the instance's own metadata service alone.
    """

    def __init__(
        self,
        *,
        clock: ServerClock | None = None,
        endpoint_url: str | None = None,
        instance_role: InstanceRole | None = None,
    ) -> None:
        self._clock = clock
        self._endpoint_url = endpoint_url
        inner = botocore.session.Session()
        if instance_role is not None:
            inner.get_component("credential_provider").providers = [instance_role]
        self._session = boto3.Session(botocore_session=inner)
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, ...], Any] = {}

    def ec2(self, region: str) -> EC2Client:
        client: EC2Client = self._client("ec2", region)
        return client

    def ecr(self, region: str) -> ECRClient:
        client: ECRClient = self._client("ecr", region)
        return client

    def launcher(self, region: str) -> EC2Client:
        """For RunInstances: one attempt, since a refusal for capacity is an HTTP 500 that a retry
        would only repeat, and a lost answer is settled by the token."""
        settings = Config(read_timeout=LAUNCH_TIMEOUT_S, retries=_retries(1))
        client: EC2Client = self._client("ec2", region, "launcher", settings)
        return client

    def aside(self, region: str) -> EC2Client:
        """For what is good to know beside an answer, which must not wait long for it."""
        settings = Config(connect_timeout=ASIDE_TIMEOUT_S, read_timeout=ASIDE_TIMEOUT_S)
        client: EC2Client = self._client("ec2", region, "aside", settings)
        return client

    def sns(self, region: str) -> SNSClient:
        client: SNSClient = self._client("sns", region)
        return client

    def ssm(self, region: str) -> SSMClient:
        client: SSMClient = self._client("ssm", region)
        return client

    def secretsmanager(self, region: str) -> SecretsManagerClient:
        client: SecretsManagerClient = self._client("secretsmanager", region)
        return client

    def pricing(self) -> PricingClient:
        client: PricingClient = self._client("pricing", PRICING_REGION)
        return client

    def s3(self, region: str) -> S3Client:
        # "virtual" also gives presigned URLs of the bucket's own region: a new bucket is not yet
        # known at the global endpoint. Another server than AWS's has no names for buckets.
        client: S3Client = self._client("s3", region, "", self._s3_settings())
        return client

    def carrier(self, region: str) -> S3Client:
        """The same for the bytes of files."""
        settings = self._s3_settings().merge(Config(read_timeout=TRANSFER_TIMEOUT_S))
        client: S3Client = self._client("s3", region, "carrier", settings)
        return client

    def _s3_settings(self) -> Config:
        return Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if self._endpoint_url else "virtual"},
            retries=_retries(S3_ATTEMPTS),
        )

    def close(self) -> None:
        """Close all connections; no client may be used afterwards."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _client(self, service: str, region: str, use: str = "", settings: Any = None) -> Any:
        with self._lock:  # making clients is not safe in threads, using them is
            key = (service, region, use)
            if key not in self._clients:
                config = _BASE.merge(settings) if settings else _BASE
                client = self._session.client(
                    service,  # type: ignore[call-overload]
                    region_name=region,
                    endpoint_url=self._endpoint_url,
                    config=config,
                )
                if self._clock is not None:
                    sign_by(self._clock, client)
                    if service == "s3":
                        self._clock.watch(client)
                self._clients[key] = client
            return self._clients[key]


class InstanceRole(CredentialProvider):
    """Keys of the instance's role from IMDSv2, renewed in time by `clock`, whatever the machine's
    own clock says. No call is made before the keys are needed; where IMDS does not answer, the
    call that needs them fails as Unavailable."""

    METHOD = "iam-role"
    CANONICAL_NAME = "SpotrunnerInstanceRole"

    def __init__(self, clock: ServerClock, endpoint: str | None = None) -> None:
        """`endpoint` is where IMDS answers; by default as the environment says, as in all SDKs."""
        super().__init__()
        self._clock = clock
        url = endpoint or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or IMDS_URL
        self._fetcher = _Fetcher(
            clock,
            timeout=1,
            num_attempts=2,
            user_agent="spotrunner",
            config={"ec2_metadata_service_endpoint": url, "ec2_metadata_v1_disabled": True},
        )

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._keys, self.METHOD, self._now)

    def _now(self) -> dt.datetime:
        # A machine whose clock is ahead would take its first keys for old ones, and never get the
        # answer that sets its clock.
        return self._clock.now() if self._clock.heard else LONG_AGO

    def _keys(self) -> dict[str, Any]:
        keys = self._fetcher.retrieve_iam_role_credentials()
        if not keys:
            raise CredentialRetrievalError(
                provider=self.METHOD, error_msg="the metadata service gives no keys"
            )
        return keys


class _Fetcher(InstanceMetadataFetcher):
    """botocore's, but for the clock by which it judges how long keys live."""

    def __init__(self, clock: ServerClock, **settings: Any) -> None:
        super().__init__(**settings)
        self._clock = clock

    def _evaluate_expiration(self, credentials: dict[str, Any]) -> None:
        expires_at = dt.datetime.fromisoformat(credentials["expiry_time"].replace("Z", "+00:00"))
        now = self._clock.now()
        if self._clock.heard and expires_at <= now:
            extended_s = KEYS_EXTENDED_S * random.uniform(1.0, 1.25)
            again_at = now + dt.timedelta(seconds=extended_s)
            credentials["expiry_time"] = again_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _retries(attempts: int) -> Any:
    return {"mode": "standard", "total_max_attempts": attempts}


_BASE = Config(
    connect_timeout=CONNECT_TIMEOUT_S,
    read_timeout=READ_TIMEOUT_S,
    retries=_retries(ATTEMPTS),
    max_pool_connections=CONNECTIONS,
    user_agent_extra="spotrunner",
)
