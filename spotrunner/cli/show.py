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

    answer = find(api_file).get(job_path(job), watch=1)
    if output is Output.JSON:
        print_json(answer)
        return
    if answer["trouble"]:
        say(f"S3 does not answer, so this is not all: {answer['trouble']}")
    display(pairs(_facts(answer)))
    if answer["attempts"]:
        headers = ["#", "POOL", "MARKET", "$/H", "STATE", "FROM", "FOR", "STEPS", "COST"]
        rows = [_attempt(attempt, answer["now"]) for attempt in answer["attempts"]]
        display("", table(headers, rows, right=("#", "$/H", "COST"), whole=("POOL",)))


def _facts(answer: Json) -> Iterator[tuple[str, str | None]]:
    from spotrunner.cli import words

    job, now = answer["job"], answer["now"]
    yield "job", job["id"]
    yield "state", words.state(job["state"], job["pause"] or job["phase"])
    yield "why", job["reason"]
    yield "submitted", f"{words.clock(job['submitted_at'])} UTC"
    yield "ended", words.clock(job["ended_at"])
    yield "image", job["image"]
    yield "asks for", f"{job['market']}: {', '.join(job['instance_types'])}"
    yield "in", ", ".join(job["regions"])
    yield "run", job["run"].strip()
    yield "data", ", ".join(f"{data['source']} as {data['target']}" for data in job["data"])
    yield "envs", ", ".join(job["envs"])
    yield "step", _progress(job)
    yield "metrics", _metrics(answer["report"])
    yield "checkpoint", words.checkpoint(job["committed_step"], job["committed_at"], now)
    yield "last report", _last_report(answer["report"], job, now)
    yield "policy", _policy(answer["schedule"], job)
    yield "deadline", _deadline(answer["schedule"], job)
    yield "work left", _work_left(answer["schedule"])
    yield "changeover", _changeover(answer["changeover"], job)
    yield "cost", _money(answer)
    yield "budget", _budget(answer)


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


def _changeover(changeover: Json | None, job: Json) -> str | None:
    """From the request of a launch to its first step."""
    from spotrunner.cli import words

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
    return f"{told}; with {short} {what} {words.usd(saves)} less"


def _money(answer: Json) -> str | None:
    from spotrunner.cli import words

    cost, dear = words.usd(answer["cost_usd"]), words.usd(answer["ondemand_usd"])
    saved = words.percent(answer["saved_fraction"])
    return f"{cost} (on-demand {dear}, saved {saved})" if saved else cost


def _budget(answer: Json) -> str | None:
    from spotrunner.cli import words

    if answer["budget_usd"] is None:
        return "none"
    left = answer["budget_usd"] - answer["cost_usd"] - answer["reserved_usd"]
    return (
        f"{words.usd(answer['budget_usd'])}: {words.usd(answer['reserved_usd'])} reserved,"
        f" {words.usd(max(0.0, left))} left"
    )


def _attempt(attempt: Json, now: str) -> list[str | None]:
    from spotrunner.cli import words

    what = attempt["end_reason"] or attempt["ending"] or attempt["phase"]
    return [
        str(attempt["generation"]),
        attempt["pool"],
        attempt["market"],
        words.usd_hour(attempt["price_usd_hour"]),
        words.state(attempt["state"], what),
        words.clock(attempt["from"]),
        words.since(attempt["from"], attempt["to"] or now),
        _steps(attempt),
        words.usd(attempt["cost_usd"]),
    ]


def _steps(attempt: Json) -> str | None:
    """From HEAD's step at its start to HEAD's at its end; None where it never trained."""
    if attempt["first_step_at"] is None:
        return None
    before, after = attempt["step_before"], attempt["step_after"]
    return f"from {before}" if after is None else f"{before} to {after}"
