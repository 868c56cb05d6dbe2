"""The play: one job, one interruption with notice, one hour skipped, one death, one comparison."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spotrunner.cli.demo.facts import Interruption, Told
from spotrunner.cli.demo.progress import ProgressFiles
from spotrunner.cli.demo.reference import Reference, reference_run
from spotrunner.cli.demo.screen import Screen
from spotrunner.cli.demo.stage import Stage
from spotrunner.cli.failure import Failure
from spotrunner.cli.words import instant
from spotrunner.lab.paths import HOME_BUCKET
from spotrunner.ports import NotFound

LOOK_S = 0.4
ACT_TIMEOUT_S = 300.0
# Where the two interruptions come, as parts of the training: the first in the middle of an epoch,
# both between two saves, so that something could be lost.
FIRST_AT, SECOND_AT = 0.25, 0.62
SKIPPED_S = 3600
# The payload's own settings that the comparison and the figures need.
ENVS = {"BUCKET": HOME_BUCKET, "EPOCHS": "80", "SAVE_EVERY": "250", "PROGRESS_EVERY": "1"}


@dataclass
class Play:
    """Acts in their order; `perform` plays them all."""

    stage: Stage
    screen: Screen
    seed: int
    phases_s: dict[str, float] = field(default_factory=dict)
    _job_id: str = ""
    _seen_events: int = 0
    _role_keys: int = 0
    _detail: Mapping[str, Any] = field(default_factory=dict)
    _interruptions: list[Interruption] = field(default_factory=list)

    def perform(self) -> Told:
        envs = {**ENVS, "SEED": str(self.seed)}
        cheapest = self._submit(envs)
        files = ProgressFiles(self.stage.folder)
        self._files = files
        run = json.loads(self._spec())["run"]
        folder = self.stage.folder / "reference"
        try:
            with reference_run(
                run, self.stage.payload, self.stage.dataset, {**envs}, folder
            ) as reference:
                self._acts()
                return self._told(reference, cheapest, int(envs["SAVE_EVERY"]))
        finally:
            files.close()

    # -- acts ----------------------------------------------------------------------------------

    def _submit(self, envs: Mapping[str, str]) -> float:
        """The cheapest on-demand price of the offers, an hour."""
        arguments = [part for name, value in envs.items() for part in ("--env", f"{name}={value}")]
        file = str(self.stage.payload / "job.yaml")
        shown = self._phase(
            "submit", lambda: self.stage.spotrunner("submit", file, "-y", *arguments)
        )
        self.screen.say(f"spotrunner submit {file} -y --env …\n{shown.rstrip()}")
        (job,) = self.stage.api.get("/v1/jobs")["jobs"]
        self._job_id = job["id"]
        offers = json.loads(
            self.stage.spotrunner("submit", file, "--dry-run", "-o", "json", *arguments)
        )["offers"]
        return float(min(offer["ondemand_usd_hour"] for offer in offers if offer["rank"]))

    def _acts(self) -> None:
        self._phase("launch, boot, fetch", lambda: self._until(self._trains(0)))
        self._phase("train", lambda: self._until(self._past(0, FIRST_AT)))
        self._interrupt(0, notice=True)
        self._phase("notice to next step", lambda: self._until(self._trains(1)))
        self.screen.say(f"lab skip {SKIPPED_S // 60}m: the instance passes its first hour")
        self._phase("skip an hour", self._skip)
        self._phase("train again", lambda: self._until(self._past(1, SECOND_AT)))
        self._interrupt(1, notice=False)
        self._phase("death to next step", lambda: self._until(self._trains(2)))
        self._phase("train to the end", lambda: self._until(self._is_over))
        self._phase("nothing left", lambda: self._until(self._is_empty))

    def _interrupt(self, number: int, *, notice: bool) -> None:
        attempt = self._held()[number]
        how = "two minutes' notice" if notice else "no notice"
        self.screen.say(f"EC2 takes {attempt['instance_id']} ({attempt['id']}), {how}", "bold red")
        at = self._lab_now()
        self.stage.lab.interrupt(attempt["instance_id"], notice=notice)
        self._interruptions.append(Interruption(attempt=attempt["id"], notice=notice, at=at))

    def _skip(self) -> None:
        """While it lasts we go on looking: the agent of a job that is watched follows at once."""
        executor = ThreadPoolExecutor(1)
        try:
            skip = executor.submit(self.stage.lab.skip, SKIPPED_S)
            self._until(skip.done)
            skip.result()
        finally:
            # Who stops the demo here does not wait for the hour: the lab's end ends the call.
            executor.shutdown(wait=False)
        instance = self._held()[1]["instance_id"]
        rows = self.stage.lab.status()["instances"]
        self._role_keys = next(row["role_keys"] for row in rows if row["id"] == instance)

    # -- conditions ----------------------------------------------------------------------------

    def _trains(self, number: int) -> Callable[[], bool]:
        def holds() -> bool:
            held = self._held()
            return len(held) > number and held[number]["first_step_at"] is not None

        return holds

    def _past(self, number: int, part: float) -> Callable[[], bool]:
        """The attempt is past this part of the training, in the middle of an epoch."""

        def holds() -> bool:
            made = self._files.steps(self._held()[number]["id"])
            if made is None or made.last < part * made.total:
                return False
            per_epoch = made.total // int(ENVS["EPOCHS"])
            return 0.2 < made.last % per_epoch / per_epoch < 0.8

        return holds

    def _is_over(self) -> bool:
        return bool(self._detail["job"]["state"] in ("succeeded", "failed", "cancelled"))

    def _is_empty(self) -> bool:
        return not self.stage.lab.leftovers()["instances"] and all(
            attempt["to"] for attempt in self._detail["attempts"]
        )

    # -- looking -------------------------------------------------------------------------------

    def _until(self, holds: Callable[[], bool]) -> None:
        give_up_at, pause = time.monotonic() + ACT_TIMEOUT_S, threading.Event()
        while True:
            self._look()
            if holds():
                return
            if self._is_over() and self._detail["job"]["state"] != "succeeded":
                raise Failure(
                    f"the job {self._detail['job']['state']}: {self._detail['job']['reason']}"
                )
            if time.monotonic() > give_up_at:
                raise Failure(
                    f"the demo waited {ACT_TIMEOUT_S:.0f} s in vain; see {self.stage.folder}"
                )
            pause.wait(LOOK_S)

    def _look(self) -> None:
        api = self.stage.api
        self._detail = api.get(f"/v1/jobs/{self._job_id}", watch=1)
        for number, event in self._new_events():
            self._seen_events = number
            self.screen.event(event)
        held = self._held()
        self._files.look({attempt["id"]: attempt["instance_id"] for attempt in held})
        for attempt in held:
            made = self._files.steps(attempt["id"])
            if made is not None and attempt["to"] is None:
                self.screen.progress(attempt["id"], made)

    def _held(self) -> list[Mapping[str, Any]]:
        """The attempts that EC2 gave an instance to, in their order."""
        return [attempt for attempt in self._detail["attempts"] if attempt["instance_id"]]

    def _new_events(self) -> list[tuple[int, Mapping[str, Any]]]:
        answer = self.stage.api.get(f"/v1/jobs/{self._job_id}/events", after=self._seen_events)
        return [(event["n"], event) for event in answer["events"]]

    def _lab_now(self) -> dt.datetime:
        now = instant(self.stage.lab.status()["now"])
        assert now is not None
        return now

    def _phase(self, name: str, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        done = act()
        self.phases_s[name] = time.monotonic() - began
        return done

    # -- the end -------------------------------------------------------------------------------

    def _told(self, reference: Reference, cheapest: float, interval: int) -> Told:
        self.screen.say("comparing with the uninterrupted run")
        expected = self._phase("wait for the reference", reference.result)
        steps = {each["id"]: self._files.steps(each["id"]) for each in self._detail["attempts"]}
        return Told(
            job=self._detail,
            interruptions=self._interruptions,
            steps={attempt: made for attempt, made in steps.items() if made is not None},
            steps_total=int(self._result()["steps"]),
            cheapest_ondemand_usd=cheapest,
            checkpoint_interval_steps=interval,
            result=self._result(),
            reference=expected,
            leftovers=self.stage.lab.leftovers()["instances"],
            role_keys=self._role_keys,
            phases_s=self.phases_s,
        )

    def _result(self) -> Mapping[str, Any]:
        """result.json of the outputs that HEAD names."""
        done = Path(self._detail["head"]["done"])
        try:
            body = self.stage.objects.get((done.parent / "result.json").as_posix()).body
        except NotFound:
            raise Failure(f"the outputs at {done.parent} have no result.json") from None
        result: Mapping[str, Any] = json.loads(body)
        return result

    def _spec(self) -> bytes:
        return self.stage.objects.get(f"jobs/{self._job_id}/spec.json").body
