from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spotrunner.cli.jobs import JobArgument, job_path
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

Json = dict[str, Any]


def show(
    job: JobArgument, output: OutputOption = Output.TABLE, api_file: ApiFileOption = None
) -> None:
    """Show a job: progress, money, checkpoints, and each attempt (#) with its price and end."""
    from spotrunner.cli.api import find
    from spotrunner.cli.output import display, pairs, print_json, say, table
    from spotrunner.cli.show_attempts import HEADERS, row, runs

    answer = find(api_file).get(job_path(job), watch=1)
    if output is Output.JSON:
        print_json(answer)
        return
    if answer["trouble"]:
        say(f"S3 does not answer, so this is not all: {answer['trouble']}")
    display(pairs(_facts(answer)))
    if answer["attempts"]:
        rows = [row(run, answer["now"]) for run in runs(answer["attempts"])]
        display("", table(HEADERS, rows, right=("#", "$/H", "COST"), whole=("POOL",)))


def _facts(answer: Json) -> Iterator[tuple[str, str | None]]:
    from spotrunner.cli import show_instance, words

    job, now = answer["job"], answer["now"]
    yield "job", job["id"]
    yield "state", words.state(job["state"], job["pause"] or job["phase"])
    yield "why", job["reason"]
    yield "because", show_instance.because(answer)
    yield "failed", show_instance.failure(answer)
    yield "goes on", answer["goes_on"]
    yield "owner", job["owner"]
    yield "sweep", _sweep(job)
    yield "submitted", f"{words.clock(job['submitted_at'])} UTC"
    yield "ended", words.clock(job["ended_at"])
    yield "image", show_instance.image(answer)
    yield "asks for", f"{job['market']}: {', '.join(job['instance_types'])}"
    yield "in", ", ".join(job["regions"])
    yield "run", job["run"].strip()
    yield "data", ", ".join(_data(data) for data in job["data"])
    yield "envs", ", ".join(job["envs"])
    yield "secrets", ", ".join(_secret(secret) for secret in job["secrets"])
    yield "step", _progress(job)
    yield "metrics", _metrics(answer["report"])
    yield "checkpoint", show_instance.checkpoint(answer)
    yield "last report", _last_report(answer["report"], job, now)
    yield from show_instance.facts(answer)
    yield "policy", _policy(answer["schedule"], job)
    yield "window", _window(job["window"], now)
    yield "price limit", _price_limit(job["price_limit"])
    yield "paid ahead", words.duration(job["unattended_s"])
    yield "deadline", _deadline(answer["schedule"], job)
    yield "work left", _work_left(answer["schedule"])
    yield "changeover", _changeover(answer)
    yield "last start", show_instance.start(answer)
    yield "cost", _money(answer)
    yield "of it", _split(answer)
    yield "budget", _budget(answer)
    for cap in answer["caps"]:
        yield "shares", _shared(cap)
    yield "forecast", (answer["forecast"] or {}).get("words")
    yield "alerts", ", ".join(job["alerts"])


def _data(data: Json) -> str:
    mounted = ", mounted" if data["mode"] == "mount" else ""
    return f"{data['source']} as {data['target']}{mounted}"


def _secret(secret: Json) -> str:
    """Where it is. Whoever sent one with the job knows where it came from."""
    if secret["source"].startswith("object:"):
        return f"{secret['name']} sent with the job"
    return f"{secret['name']} from {secret['source']}"


def _progress(job: Json) -> str | None:
    from spotrunner.cli import words

    told, rate = words.progress(job["step"], job["total_steps"]), job["steps_per_s"]
    if told is None or not rate or job["over"]:
        return told
    left = (job["total_steps"] or 0) - job["step"]
    eta = f", done in {words.duration(left / rate)}" if left > 0 else ""
    return f"{told}, {rate:.3g} a second{eta}"


def _metrics(report: Json | None) -> str | None:
    metrics = report["metrics"] if report else {}
    return ", ".join(f"{name} {float(value):.4g}" for name, value in metrics.items())


def _last_report(report: Json | None, job: Json, now: str) -> str | None:
    from spotrunner.cli import words

    if report is None or job["over"]:
        return None
    said = f": {report['message']}" if report.get("message") else ""
    return f"{words.since(report['at'], now)} ago, from {report['attempt']}{said}"


def _policy(schedule: Json, job: Json) -> str:
    from spotrunner.cli import words

    bid = words.usd_hour(job["max_price_usd_hour"])
    return str(schedule["policy"]) + (f", at most ${bid} an hour" if bid else "")


def _sweep(job: Json) -> str:
    from spotrunner.cli import words

    budget = words.usd(job["sweep_budget_usd"])
    return str(job["sweep"]) + (f", {budget} in all" if budget else "")


def _window(window: Json | None, now: str) -> str | None:
    from spotrunner.cli import words

    if window is None:
        return None
    told = str(window["words"])
    if window["changes_at"] is None:
        return told
    change = "closes" if window["open"] else "opens"
    return f"{told}; {change} in {words.since(now, window['changes_at'])}"


def _price_limit(limit: Json | None) -> str | None:
    from spotrunner.cli import words

    if limit is None:
        return None

    def level(name: str) -> str | None:
        share = limit[f"{name}_fraction"]
        if share is None:
            return words.usd(limit[f"{name}_usd_hour"])
        return f"{100 * share:.4g}%"

    of = " of on-demand" if limit["pause_above_fraction"] is not None else " an hour"
    after = words.duration(limit["pause_after_s"])
    return (
        f"above {level('pause_above')}{of} for {after} it waits, up to {level('resume_below')} it"
        " goes on"
    )


def _deadline(schedule: Json, job: Json) -> str | None:
    from spotrunner.cli import words

    left_s = schedule["left_s"]
    if left_s is None:
        return None
    span = words.duration(abs(left_s))
    if job["over"] and job["state"] != "succeeded":
        return f"{words.clock(schedule['deadline_at'])} UTC"
    if job["over"]:
        how = f"{span} before it" if left_s >= 0 else f"{span} late"
    else:
        how = f"in {span}" if left_s >= 0 else f"{span} ago"
    return f"{words.clock(schedule['deadline_at'])} UTC, {how}"


def _work_left(schedule: Json) -> str | None:
    """Nothing is known of it without a job file's `work` or a report of progress."""
    from spotrunner.cli import words

    if schedule["work_left_s"] is None:
        return None
    told = f"about {words.duration(schedule['work_left_s'])} on {schedule['work_on']}"
    slack_s = schedule["slack_s"]
    if slack_s is None:
        return told
    if slack_s < 0:
        return f"{told}: {words.duration(-slack_s)} too late, even on-demand"
    return f"{told}: {words.duration(slack_s)} of slack"


def _changeover(answer: Json) -> str | None:
    """From the request of a launch to its first step."""
    from spotrunner.cli import show_instance, words

    job, changeover = answer["job"], answer["changeover"]
    if changeover is None:
        return None
    told = str(words.exact(changeover["mean_s"]))
    if changeover["count"] > 1:
        longest = words.exact(changeover["longest_s"])
        told += f" on average, {longest} the longest of {changeover['count']}"
    saves = changeover["short_saves_usd"]
    # Less than a hundredth of a cent is nothing.
    if saves is None or saves < 0.0001:
        return told
    short = words.exact(changeover["short_s"])
    what = "it would have cost" if job["over"] else "the rest would cost"
    how = ": spotrunner bake" if saves >= 0.01 and show_instance.can_bake(answer) else ""
    return f"{told}; with {short} {what} {words.usd(saves)} less{how}"


def _money(answer: Json) -> str | None:
    from spotrunner.cli import words

    cost = words.about(words.usd(answer["cost_usd"]), answer["estimated"])
    dear, saved = words.usd(answer["ondemand_usd"]), words.percent(answer["saved_fraction"])
    told = f"{cost} (on-demand {dear}, saved {saved})" if saved else cost
    how = "; in part estimated: how an instance ended is not known"
    return f"{told}{how}" if answer["estimated"] else told


def _split(answer: Json) -> str | None:
    """Where there is anything but the instances."""
    from spotrunner.cli import words

    if not answer["extras_usd"] and not answer["transfer_usd"]:
        return None
    return (
        f"instances {words.usd(answer['instance_usd'])}, disks and addresses"
        f" {words.usd(answer['extras_usd'])}, transfer {words.usd(answer['transfer_usd'])}"
    )


def _budget(answer: Json) -> str | None:
    from spotrunner.cli import words

    if answer["budget_usd"] is None:
        return "none"
    told = f"{words.usd(answer['budget_usd'])}: {words.usd(answer['reserved_usd'])} reserved"
    if answer["over_usd"]:
        over = words.usd(answer["over_usd"])
        return f"{told}, {over} over it: paid for before it was lowered, and nothing more is"
    left = answer["budget_usd"] - answer["cost_usd"] - answer["reserved_usd"]
    return f"{told}, {words.usd(max(0.0, left))} left"


def _shared(cap: Json) -> str | None:
    """A cap of others too."""
    from spotrunner.cli import words

    if cap["scope"] == "job":
        return None
    left = cap["left_usd"]
    return f"{cap['words']}: " + (
        f"{words.usd(left)} left" if left >= 0 else f"{words.usd(-left)} over it"
    )
