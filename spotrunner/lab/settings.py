"""The settings of a daemon that works in a lab, and the environment that it is started with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from spotrunner.lab.endpoint import advisor
from spotrunner.lab.gate import CONTROL_KEY
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION, INSTANCE_PROFILE, LabPaths

# A person waits: rounds come faster than production's. Limits are production's: lab time moves.
_TICK_S = 2


def write_settings(paths: LabPaths, url: str, regions: Sequence[str]) -> None:
    settings = {
        "home": {"bucket": HOME_BUCKET, "region": HOME_REGION},
        "regions": list(regions),
        "endpoint_url": url,
        "state_dir": str(paths.state),
        "api": {"host": "127.0.0.1", "port": 0},
        "tick_s": _TICK_S,
        "instance_profile": INSTANCE_PROFILE,
        "advisor_url": url + advisor.PATH,
    }
    paths.state.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(settings, sort_keys=False)
    paths.settings.write_text(f"# The daemon of this lab: spotrunner daemon --config\n{text}")


def control_environment(outer: Mapping[str, str]) -> dict[str, str]:
    """`outer` with the lab's keys instead of any of AWS's, for the daemon and for users' tools."""
    kept = {name: value for name, value in outer.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": CONTROL_KEY,
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Not the person's own profiles, which could name other keys and endpoints.
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
