"""The items of an instance's metadata service, as a tree of texts below /latest/."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping

from spotrunner.core.model import Market
from spotrunner.lab.keys import RoleKey
from spotrunner.sim.values import ImdsView, InstanceRecord


def items(view: ImdsView, key: RoleKey | None, account: str) -> dict[str, str]:
    """Every item that has a value now, by its path; absent ones are 404s. `key` is the role's."""
    record = view.record
    return {
        **_identity(record),
        **_placement(record),
        **_market(view),
        **_tags(record),
        **_credentials(record, key, account),
        "dynamic/instance-identity/document": json.dumps(_document(record, account), indent=2),
        **({"user-data": view.user_data} if view.user_data else {}),
    }


def listing(tree: Mapping[str, str], path: str) -> str | None:
    """What lies below a path, one name a line, folders with a slash; None where nothing does."""
    prefix = path.rstrip("/") + "/" if path.strip("/") else ""
    below = (item.removeprefix(prefix) for item in tree if item.startswith(prefix))
    # Tags may have slashes in their keys, and are no folders.
    if prefix == "meta-data/tags/instance/":
        names = set(below)
    else:
        names = {name.split("/")[0] + ("/" if "/" in name else "") for name in below}
    return "\n".join(sorted(names)) if names else None


def _identity(record: InstanceRecord) -> dict[str, str]:
    host = f"ip-{record.private_ip.replace('.', '-')}.ec2.internal"
    return {
        "meta-data/ami-id": record.request.image_id,
        "meta-data/ami-launch-index": str(record.launch_index),
        "meta-data/hostname": host,
        "meta-data/instance-action": "none",
        "meta-data/instance-id": record.id,
        "meta-data/instance-life-cycle": ("spot" if record.market is Market.SPOT else "on-demand"),
        "meta-data/instance-type": record.pool.instance_type,
        "meta-data/local-hostname": host,
        "meta-data/local-ipv4": record.private_ip,
        "meta-data/reservation-id": record.reservation_id,
        "meta-data/services/domain": "amazonaws.com",
        "meta-data/services/partition": "aws",
    }


def _placement(record: InstanceRecord) -> dict[str, str]:
    return {
        "meta-data/placement/availability-zone": record.pool.zone,
        "meta-data/placement/availability-zone-id": record.zone_id,
        "meta-data/placement/region": record.pool.region,
    }


def _market(view: ImdsView) -> dict[str, str]:
    """Notices; there is not even a folder `spot` before one."""
    found = {}
    if view.spot_action is not None:
        action, at = view.spot_action
        found["meta-data/spot/instance-action"] = json.dumps({"action": action, "time": _iso(at)})
        found["meta-data/spot/termination-time"] = _iso(at)
    if view.rebalance_at is not None:
        notice = json.dumps({"noticeTime": _iso(view.rebalance_at)})
        found["meta-data/events/recommendations/rebalance"] = notice
    return found


def _tags(record: InstanceRecord) -> dict[str, str]:
    if not record.request.instance_metadata_tags:
        return {}
    return {f"meta-data/tags/instance/{key}": value for key, value in record.tags}


def _credentials(record: InstanceRecord, key: RoleKey | None, account: str) -> dict[str, str]:
    role = record.request.instance_profile
    if role is None or key is None:
        return {}
    answer = {
        "Code": "Success",
        "LastUpdated": _iso(key.issued_at),
        "Type": "AWS-HMAC",
        "AccessKeyId": key.access_key,
        "SecretAccessKey": key.secret_key,
        "Token": key.token,
        "Expiration": _iso(key.expires_at),
    }
    info = {
        "Code": "Success",
        "LastUpdated": _iso(key.issued_at),
        "InstanceProfileArn": f"arn:aws:iam::{account}:instance-profile/{role}",
        "InstanceProfileId": "AIPA" + "0" * 17,
    }
    return {
        "meta-data/iam/info": json.dumps(info, indent=2),
        f"meta-data/iam/security-credentials/{role}": json.dumps(answer, indent=2),
    }


def _document(record: InstanceRecord, account: str) -> dict[str, object]:
    return {
        "accountId": account,
        "architecture": "x86_64",
        "availabilityZone": record.pool.zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": record.request.image_id,
        "instanceId": record.id,
        "instanceType": record.pool.instance_type,
        "kernelId": None,
        "pendingTime": _iso(record.launched_at),
        "privateIp": record.private_ip,
        "ramdiskId": None,
        "region": record.pool.region,
        "version": "2017-09-30",
    }


def _iso(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.timezone.utc):%Y-%m-%dT%H:%M:%S}Z"
