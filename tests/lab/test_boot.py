"""The real user-data, agent and trainer on an instance of the lab; the test is the daemon."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotrunner.adapters import codec
from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.app import archive
from spotrunner.core.boot import Boot, user_data
from spotrunner.core.model import (
    Head,
    InstanceState,
    JobSpec,
    LaunchRequest,
    Market,
    Order,
    Phase,
    Pool,
    Report,
    Verb,
)
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION, INSTANCE_PROFILE
from spotrunner.lab.process import RunningLab, up
from spotrunner.lab.settings import control_environment
from spotrunner.ports import Image, LaunchRefused, Throttled
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

JOB, ATTEMPT, INSTALLATION = "shell-7f3a", "shell-7f3a.1", "test"
# A trainer in the words of the trainer contract: it saves on SIGUSR1, on SIGTERM it also ends, and
# it is done when the file `finish` turns up beside it.
TRAINER = r"""
step=0
save() {
  to="$SPOTRUNNER_CHECKPOINT_DIR/$(printf %08d $step)"
  [ -d "$to" ] || { mkdir "$to.part"; echo $step > "$to.part/state"; mv "$to.part" "$to"; }
}
tell() {
  echo "{\"step\": $step, \"total_steps\": 1000}" >> "$SPOTRUNNER_LOG_DIR/progress.jsonl"
}
trap save USR1
trap 'save; exit 75' TERM
until [ -e finish ]; do tell; step=$((step + 1)); sleep 0.2; done
tell
echo model > "$SPOTRUNNER_OUTPUT_DIR/model"
"""


class Control:
    """What the daemon would do, by the daemon's own adapters."""

    def __init__(self, lab: RunningLab, folder: Path) -> None:
        self.lab = lab
        self.aws = Aws(endpoint_url=lab.url)
        self.objects = S3Objects(self.aws.s3(HOME_REGION), HOME_BUCKET)
        self.mailbox = ObjectMailbox(self.objects)
        self.heads = ObjectHeads(self.objects)
        self.cloud = Ec2Cloud(self.aws)
        self.instance_id = ""
        self.region = ""
        digest = archive.build(folder / "agent.tar.gz")
        self.objects.upload(folder / "agent.tar.gz", f"agent/{digest}.tar.gz")
        self.digest = digest

    def now(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self.lab.status()["now"])

    def submit(self) -> None:
        spec = JobSpec(
            name="shell",
            run=TRAINER,
            image="busybox:1.36",
            instance_types=("g4dn.xlarge",),
            regions=("us-east-1",),
        )
        self.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))
        self.order(paid_s=24 * 3600)

    def order(self, *, paid_s: int, n: int = 1, verb: Verb = Verb.RUN) -> None:
        self.mailbox.post_order(
            Order(
                box=ATTEMPT,
                epoch=1,
                n=n,
                attempt=ATTEMPT,
                generation=1,
                verb=verb,
                paid_until=self.now() + dt.timedelta(seconds=paid_s),
                watched=True,
            )
        )

    def launch(self) -> None:
        """In the first pool that gives one: two are always open."""
        for region in self.lab.status()["regions"]:
            sites = AwsSites(self.aws, instance_profile=INSTANCE_PROFILE)
            site = sites.site(region)
            for zone, subnet_id in site.subnets.items():
                pool = Pool(region=region, zone=zone, instance_type="g4dn.xlarge")
                image = sites.image(region, pool.instance_type)
                try:
                    launched = self.cloud.launch(self._request(pool, subnet_id, image))
                except (LaunchRefused, Throttled):
                    continue
                self.instance_id, self.region = launched.instance_id, region
                return
        raise AssertionError("no pool gives an instance")

    def _request(self, pool: Pool, subnet_id: str, image: Image) -> LaunchRequest:
        boot = Boot(
            attempt=ATTEMPT,
            job=JOB,
            installation=INSTALLATION,
            bucket=HOME_BUCKET,
            region=HOME_REGION,
            archive_url=self.objects.presigned(f"agent/{self.digest}.tar.gz", 600),
            archive_sha256=self.digest,
            first_step_s=1800,
            endpoint_url=self.lab.url,
        )
        return LaunchRequest(
            client_token=f"{INSTALLATION}.{ATTEMPT}",
            pool=pool,
            market=Market.SPOT,
            image_id=image.id,
            root_device=image.root_device,
            subnet_id=subnet_id,
            user_data=user_data(boot),
            disk_gib=100,
            tags=(
                ("Name", f"spotrunner {ATTEMPT}"),
                ("spotrunner:installation", INSTALLATION),
                ("spotrunner:job", JOB),
                ("spotrunner:attempt", ATTEMPT),
            ),
            instance_profile=INSTANCE_PROFILE,
        )

    def report(self) -> Report | None:
        self.mailbox.boxes()
        return self.mailbox.reports().get(ATTEMPT)

    def phase(self) -> Phase | None:
        report = self.report()
        return report.phase if report else None

    def step(self) -> int:
        report = self.report()
        return (report.step or 0) if report else 0

    def head(self) -> Head | None:
        return self.heads.read(JOB).head

    def state(self) -> InstanceState:
        return self.cloud.by_id(self.region, self.instance_id).state

    def console(self) -> str:
        return (self.lab.paths.folder / f"consoles/{self.instance_id}.log").read_text()

    @property
    def workdir(self) -> Path:
        root = self.lab.paths.folder / "instances" / self.instance_id
        (folder,) = root.glob(f"var/lib/spotrunner/{ATTEMPT}/workdir")
        return folder


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    for name, value in control_environment({}).items():
        monkeypatch.setenv(name, value)
    lab = up(tmp_path / "lab", seed=2, watched=True)
    made = Control(lab, tmp_path)
    try:
        yield made
        print(made.console())
        assert lab.leftovers()["processes"] == []
    finally:
        made.aws.close()
        lab.close()


def test_from_boot_over_a_skip_to_the_outputs(control: Control) -> None:
    control.submit()
    control.launch()
    until(lambda: control.phase() is Phase.TRAIN, 60)
    skipped = control.lab.skip(65 * 60)
    assert skipped["late"] == []
    assert (skipped["hops"], skipped["rounds"]) == (7, 0)
    (row,) = control.lab.status()["instances"]
    assert (row["state"], row["role_keys"]) == ("running", 2), "its keys were renewed once"
    assert control.step() > 0, "it trains on"
    (control.workdir / "finish").touch()
    until(lambda: (head := control.head()) is not None and head.done, 60)
    assert control.phase() is Phase.DONE
    until(lambda: control.state() is InstanceState.ENDED, 60)
    (row,) = control.lab.status()["instances"]
    assert row["reason"] == "Client.InstanceInitiatedShutdown", "it switched itself off"


def test_a_notice_is_answered_by_a_commit(control: Control) -> None:
    control.submit()
    control.launch()
    until(lambda: control.phase() is Phase.TRAIN, 60)
    control.lab.interrupt(control.instance_id)
    until(lambda: (head := control.head()) is not None and head.manifest, 30)
    report = control.report()
    assert report is not None
    assert report.notice is not None
    assert report.phase is Phase.TRAIN, "it goes on until its replacement is ready"
    control.lab.post("fail", {"instance": control.instance_id})
    until(lambda: control.state() is InstanceState.ENDED, 60)


def test_an_instance_that_nobody_pays_ends_itself(control: Control) -> None:
    control.submit()
    control.launch()
    until(lambda: control.phase() is Phase.TRAIN, 60)
    control.order(paid_s=15, n=2)
    until(lambda: control.state() is InstanceState.ENDED, 90)
    head = control.head()
    assert head is not None
    assert head.final, "what was trained is safe"
