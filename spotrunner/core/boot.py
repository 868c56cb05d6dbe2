"""The user-data of an instance: a plain bash script that arms the fail-safe timer, fetches the
agent and starts it; or, for `spotrunner bake`, prepares its disk to become a machine image.

An EC2 instance runs its user-data once in its life, and a reboot forgets both the timer and the
agent's transient unit. So the script keeps itself on the disk, and a unit of systemd runs it again
at each boot: the timer, armed to what is left of the paid time, and then the agent.

The same text runs on EC2 and in the lab. It calls every tool by its bare name, never sets PATH,
and powers off through one function that refuses on any machine but the one it was rendered for.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

# EC2's limit for user-data before base64.
MAX_BYTES = 16_384


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What the user-data of one attempt is rendered from.

    `first_step_s` is the paid time that the launch reserved: the instance powers off after it
    unless the agent has been paid on. `endpoint_url` replaces AWS's own endpoints (the lab), and
    `image_mirror` is a registry and a path that may have the container's image too.
    """

    attempt: str
    job: str
    installation: str
    bucket: str
    region: str
    archive_url: str
    archive_sha256: str
    first_step_s: int
    endpoint_url: str | None = None
    image_mirror: str | None = None


@dataclass(frozen=True, kw_only=True)
class Baking:
    """What the user-data of an instance is rendered from whose disk becomes a machine image. `bake`
    stands where others have their attempt. What comes of it is written to `report_url`, by PUT;
    it powers off after `longest_s`, whoever else is alive."""

    bake: str
    archive_url: str
    archive_sha256: str
    report_url: str
    container: str
    longest_s: int
    endpoint_url: str | None = None
    image_mirror: str | None = None


def user_data(boot: Boot) -> str:
    """The script, at most MAX_BYTES long."""
    return _script(
        {
            "attempt": boot.attempt,
            "archive_url": boot.archive_url,
            "archive_sha256": boot.archive_sha256,
            "agent_json": _agent_json(boot),
        },
        boot.first_step_s,
        _START,
    )


def baking_user_data(baking: Baking) -> str:
    """The script, at most MAX_BYTES long."""
    return _script(
        {
            "attempt": baking.bake,
            "archive_url": baking.archive_url,
            "archive_sha256": baking.archive_sha256,
            "report_url": baking.report_url,
            "container": baking.container,
            "image_mirror": baking.image_mirror or "",
            "endpoint_url": baking.endpoint_url or "",
        },
        baking.longest_s,
        _BAKE,
    )


def _script(values: Mapping[str, str], timer_s: int, main: str) -> str:
    assert timer_s >= 60, "the timer of `shutdown` counts whole minutes"
    variables = {**values, "first_step_minutes": str(timer_s // 60)}
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    script = _HEAD + lines + _COMMON + main
    assert len(script.encode()) <= MAX_BYTES, f"user-data of {len(script.encode())} bytes"
    return script


def _agent_json(boot: Boot) -> str:
    """What the agent reads at every start of it, also after a crash."""
    return json.dumps(
        {
            "attempt": boot.attempt,
            "job": boot.job,
            "installation": boot.installation,
            "bucket": boot.bucket,
            "region": boot.region,
            "first_step_s": boot.first_step_s,
            "endpoint_url": boot.endpoint_url,
            "image_mirror": boot.image_mirror,
        }
    )


_HEAD = """\
#!/bin/bash
# The boot of one spotrunner instance, rendered by spotrunner/core/boot.py.
# Tools are called by their bare names and PATH is never set: the lab puts stand-ins first on it.
set -u
"""

_COMMON = r"""
root="${SPOTRUNNER_ROOT:-}"
imds="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"
home="$root/opt/spotrunner/$archive_sha256"
state="$root/var/lib/spotrunner"
# When the paid time ends, in seconds since 1970 of this machine's clock: agent/power writes it.
paid_until="$state/$attempt.paid_until"

say() { echo "spotrunner $(date -u +%H:%M:%S) $*"; }

# The newest Python that the agent can run on; one that cannot speak TLS is of no use.
find_python() {
  local name
  for name in python3.{30..10} python3; do
    if "$name" -c 'import sys, ssl, tarfile; sys.exit(sys.version_info < (3, 10))' 2> /dev/null
    then
      command -v "$name"
      return
    fi
  done
  return 1
}

# fetch SECONDS METHOD URL [HEADER]: the body on stdout; fails on a time-out and on HTTP errors.
fetch() {
  if command -v curl > /dev/null; then
    curl --silent --show-error --fail --max-time "$1" --request "$2" ${4:+--header "$4"} "$3"
  else
    "$(find_python)" -c '
import shutil, sys, urllib.request
timeout_s, method, url, *header = sys.argv[1:]
request = urllib.request.Request(url, method=method, headers=dict(h.split(": ") for h in header))
with urllib.request.urlopen(request, timeout=float(timeout_s)) as answer:
    shutil.copyfileobj(answer, sys.stdout.buffer)
' "$@"
  fi
}

imds_get() {
  local token
  token="$(fetch 2 PUT "$imds/latest/api/token" "X-aws-ec2-metadata-token-ttl-seconds: 300")" &&
    fetch 2 GET "$imds/latest/meta-data/$1" "X-aws-ec2-metadata-token: $token"
}

# Nitro names Amazon as the vendor; older Xen types (p3) say so in the BIOS or hypervisor only.
is_ec2() {
  grep -qs '^Amazon EC2' "$root/sys/class/dmi/id/sys_vendor" ||
    grep -qis 'amazon' "$root/sys/class/dmi/id/bios_version" ||
    grep -qis '^ec2' "$root/sys/hypervisor/uuid"
}

# In the lab an instance shares the machine of a person, so a system's own tool must not answer.
has_standin() {
  case "$(command -v shutdown)" in
    '' | /bin/* | /sbin/* | /usr/bin/* | /usr/sbin/* | /usr/local/bin/* | /usr/local/sbin/*)
      return 1 ;;
  esac
}

may_end_here() {
  if [ -e "$root/.spotrunner-lab-instance" ] || [ -n "$root" ]; then
    has_standin && { [ -e "$root/.spotrunner-lab-instance" ] || is_ec2; }
  else
    is_ec2
  fi
}

# power_off WHEN ("now" or "+MINUTES"): the only way to end this machine. Returns 1 where that
# would be wrong, 2 where it cannot be known now.
power_off() {
  local serves
  if ! may_end_here; then
    say "refusing to power off ($1): this is neither EC2 nor an instance of the lab"
    return 1
  fi
  if ! serves="$(imds_get tags/instance/spotrunner:attempt)"; then
    say "cannot power off ($1) yet: the metadata service does not name an attempt"
    return 2
  fi
  if [ "$serves" != "$attempt" ]; then
    say "refusing to power off ($1): this instance serves '$serves', not $attempt"
    return 1
  fi
  say "shutdown -P $1"
  shutdown -P "$1"
}

# What is left of the paid time: of the first step, or after a reboot of what the agent last knew.
minutes_left() {
  local ends
  if [ -s "$paid_until" ] && ends="$(< "$paid_until")" && [[ "$ends" =~ ^[0-9]{1,11}$ ]]; then
    echo $(((10#$ends - $(date +%s)) / 60))
  else
    echo $((first_step_minutes - SECONDS / 60))
  fi
}

# The fail-safe: without an agent that renews it the machine ends with its paid time.
arm_timer() {
  local try left
  for try in {1..100}; do
    left="$(minutes_left)"
    power_off "+$((left > 0 ? left : 0))"
    case $? in
      0) return 0 ;;
      1) return 1 ;;
    esac
    say "try $try to arm the timer failed"
    sleep 3
  done
  return 1
}

give_up() {
  say "giving up: $*"
  power_off now
  exit 1
}

download() {
  local try
  if [ -d "$home" ]; then
    say "the agent is on the image already"
    return
  fi
  mkdir -p "$root/opt/spotrunner" "$state" || return 1
  for try in {1..20}; do
    say "fetching the agent's archive, try $try"
    if fetch 120 GET "$archive_url" > "$home.tar.gz" &&
      echo "$archive_sha256  $home.tar.gz" | sha256sum --check --status; then
      return 0
    fi
    sleep 3
  done
  return 1
}

# Under its digest, and visible only when complete.
unpack() {
  [ -d "$home" ] && return
  rm -rf "$home.part" && mkdir "$home.part" &&
    tar -xzf "$home.tar.gz" -C "$home.part" && mv "$home.part" "$home" && rm -f "$home.tar.gz"
}

units="$root/etc/systemd/system"

# keep_for_reboots UNTIL: this script runs again at each boot, with the paid time ending then.
keep_for_reboots() {
  mkdir -p "$state" "$units" || return 1
  [ -s "$paid_until" ] || echo "$1" > "$paid_until" || return 1
  [ "$0" -ef "$state/boot" ] && return
  (umask 077 && printf '%s\n' "$(< "$0")" > "$state/boot") || return 1
  cat > "$units/spotrunner-boot.service" << UNIT || return 1
[Unit]
Description=spotrunner: the paid time of $attempt, and what it pays for, after a reboot
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/bash $state/boot
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable spotrunner-boot.service
}
"""

_START = r"""
# docker_there: it answers, which it may not yet.
docker_there() {
  local try
  for try in {1..30}; do
    docker version > /dev/null 2>&1 && return
    sleep 1
  done
  say "docker does not answer (tried $try times)"
  return 1
}

# lay_over FASTER FOLDER: what is in the folder moves along the first time.
lay_over() {
  if mountpoint -q "$2"; then return; fi
  if [ ! -d "$1" ]; then
    mkdir -p "$2" && cp -a "$2" "$1.part" && mv "$1.part" "$1" || return 1
  fi
  mount --bind "$1" "$2"
}

# The instance's own NVMe is several times faster than the root disk, and pulling an image writes
# gigabytes. Only before docker has any: images that were baked lie on the root disk. docker's and
# containerd's folders are laid over with the NVMe's, so that it matters to neither which of them
# keeps the images; after a reboot, which forgets that, they find on it what they had.
docker_onto_nvme() {
  local nvme="$root/opt/dlami/nvme" folder
  mountpoint -q "$nvme" 2> /dev/null || return 0
  docker_there || return 1
  [ -z "$(docker images --quiet)$(docker ps --all --quiet)" ] || return 0
  say "docker's images go to $nvme"
  systemctl stop docker.socket docker.service containerd.service
  for folder in docker containerd; do
    lay_over "$nvme/spotrunner-$folder" "$root/var/lib/$folder" || break
  done
  systemctl start containerd.service docker.socket docker.service
}

# Stopped before docker when the machine goes down, so that it can still save and commit; the last
# to be killed for want of memory; and it hands its own limit of pinned memory on to containers.
start_agent() {
  systemd-run --unit=spotrunner-agent \
    --property=Restart=always --property=RestartSec=1 --property=StartLimitIntervalSec=0 \
    --property=OOMScoreAdjust=-900 --property=LimitMEMLOCK=infinity \
    --property=After=docker.service --property=KillMode=mixed --property=TimeoutStopSec=110 \
    --property=StandardOutput=journal+console --property=StandardError=journal+console \
    --setenv=PYTHONPATH="$home" --setenv=SPOTRUNNER_ROOT="$root" \
    --setenv=AWS_EC2_METADATA_SERVICE_ENDPOINT="$imds" \
    "$python" -sS -m spotrunner.app.agent "$state/agent.json"
}

arm_timer || { say "no timer, so nothing is started"; exit 1; }
say "booting $attempt"
keep_for_reboots $(($(date +%s) + first_step_minutes * 60 - SECONDS)) ||
  give_up "a reboot could outlive the paid time"
python="$(find_python)" || give_up "no Python from 3.10 on was found"
say "using $python"
download || give_up "the agent's archive could not be had"
unpack || give_up "the agent's archive could not be unpacked"
printf '%s\n' "$agent_json" > "$state/agent.json" || give_up "the disk takes no file"
docker_onto_nvme || say "docker could not be moved to the instance's own disk"
start_agent || give_up "systemd did not start the agent"
say "the agent runs"
"""

_BAKE = r"""
# report TEXT: what came of it, for whoever waits.
report() {
  local try
  for try in {1..20}; do
    say "telling: $1 (try $try)"
    "$python" -c '
import sys, urllib.request
url, text = sys.argv[1:]
form = {"Content-Type": "application/json"}
request = urllib.request.Request(url, method="PUT", data=text.encode(), headers=form)
urllib.request.urlopen(request, timeout=30).close()
' "$report_url" "$1" && return
    sleep 3
  done
  return 1
}

fail() {
  report "{\"failed\": \"$1\"}"
  give_up "$1"
}

# Nothing writes any more: what the disk holds now is what the image will hold.
rest() {
  systemctl stop docker.socket docker.service containerd.service
  systemctl disable spotrunner-boot.service
  rm -f "$units/spotrunner-boot.service" || return 1
  # cloud-init goes by the id of the instance: a new one runs its own user-data, makes its own keys
  # of ssh. What is left of this one is nobody's business.
  rm -rf "$root"/var/lib/cloud/instances/*/user-data.txt* \
    "$root"/var/lib/cloud/instances/*/scripts \
    "$root"/etc/ssh/ssh_host_* "$root"/root/.ssh "$root"/home/*/.ssh/authorized_keys \
    "$root"/root/.docker "$root"/var/log/journal/* "$root/var/lib/systemd/random-seed" \
    "$state" || return 1
  # Empty, it is made anew at the next boot.
  if [ -e "$root/etc/machine-id" ]; then : > "$root/etc/machine-id" || return 1; fi
  if [ -d "$root/var/log" ]; then
    find "$root/var/log" -type f -exec truncate --size=0 {} + || return 1
  fi
  sync
}

arm_timer || { say "no timer, so nothing is started"; exit 1; }
# A reboot forgets the timer, and half a disk is no image: nothing is left of the paid time then.
if [ "$0" -ef "$state/boot" ]; then exit 1; fi
keep_for_reboots 0 || give_up "a reboot could outlive the timer"
say "baking $container"
python="$(find_python)" || give_up "no Python from 3.10 on was found"
say "using $python"
download || fail "the agent's archive could not be had"
unpack || fail "the agent's archive could not be unpacked"
mkdir -p "$state" || fail "the disk takes no file"
pulled="$(PYTHONPATH="$home" "$python" -sS -m spotrunner.app.baker \
  "$container" "$image_mirror" "$state/baking" "$endpoint_url")"
case "$pulled" in
  *'"digest"'*) ;;
  *)
    report "${pulled:-"{\"failed\": \"the container's image was not pulled: see the console\"}"}"
    give_up "the container's image was not pulled" ;;
esac
rest || fail "the disk could not be cleaned"
report "$pulled" || give_up "nobody can be told"
say "ready to become an image"
"""
