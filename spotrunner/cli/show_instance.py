"""What `show` says of the machines of a job: only what there is something to say about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
Fact = tuple[str, str | None]

_GIB = 2**30
_MIB = 2**20
# Figures that are older than this say nothing of now.
OLD_S = 300


def facts(answer: Json) -> Iterator[Fact]:
    """Of each live instance; with the attempt's number where there are several."""
    told = answer["instances"]
    for instance in told:
        number = f" {instance['generation']}" if len(told) > 1 else ""
        for name, text in _instance(instance, answer["now"]):
            yield f"{name}{number}", text


def because(answer: Json) -> str | None:
    """Why the trainer failed, where that is known; what and the change are in the reason."""
    if answer["job"]["state"] != "failed" or not answer["attempts"]:
        return None
    diagnosis = answer["attempts"][-1]["diagnosis"]
    return str(diagnosis["why"]) if diagnosis else None


def failure(answer: Json) -> str | None:
    """Of a job that goes on: why an attempt of it failed last, which another one may do too."""
    if answer["job"]["state"] == "failed":
        return None
    failed = (it for it in reversed(answer["attempts"]) if it["diagnosis"])
    newest = next(failed, None)
    if newest is None:
        return None
    known = newest["diagnosis"]
    return f"attempt {newest['generation']}: {known['what']}: {known['why']}; {known['change']}"


def image(answer: Json) -> str:
    """With the digest of what was pulled last, shortened as docker does it."""
    digests = (attempt["image_digest"] for attempt in reversed(answer["attempts"]))
    digest = next((digest for digest in digests if digest), None)
    name = str(answer["job"]["image"])
    if digest is None or "@" in name:
        return name
    return f"{name} ({digest.rpartition('@')[2][: len('sha256:') + 12]})"


def checkpoint(answer: Json) -> str | None:
    """The last that is safe, and how often one is made."""
    from spotrunner.cli import words

    job = answer["job"]
    last = words.checkpoint(job["committed_step"], job["committed_at"], answer["now"])
    if job["over"] or not answer["attempts"]:
        return last
    how = _how_saved(answer["attempts"])
    if how is None:
        return last
    return f"{last}; {how}" if last else f"none yet; {how}"


def _how_saved(attempts: list[Json]) -> str | None:
    from spotrunner.cli import words
    from spotrunner.core.saving import UNAWARE

    if not all(attempt["handles_save_signal"] for attempt in attempts):
        return f"none is asked for: {UNAWARE}"
    every_s = attempts[-1]["save_every_s"]
    return None if every_s is None else f"one every {words.duration(every_s)}"


def start(answer: Json) -> str | None:
    """Of the newest attempt that has told something of its way to the first step, or is on it."""
    newest = _newest_start(answer)
    return None if newest is None else _start(newest)


def can_bake(answer: Json) -> bool:
    """Its container's image was not on the machine image that it started from last."""
    from spotrunner.core.model import NO_IMAGE

    newest = _newest_start(answer)
    return answer["job"]["image"] != NO_IMAGE and not (newest and newest["baked"])


def _newest_start(answer: Json) -> Json | None:
    told = (attempt["start"] for attempt in reversed(answer["attempts"]) if _has_start(attempt))
    return next(told, None)


def _has_start(attempt: Json) -> bool:
    began = attempt["start"]
    if began is None or (attempt["end_reason"] == "refused"):
        return False
    return len(began["legs"]) > 2 or bool(attempt["live"] and not began["over"])


def _start(began: Json) -> str:
    from spotrunner.cli import words

    def span(leg: Json) -> str:
        baked = " (baked)" if leg["leg"] == "image" and began["baked"] else ""
        return f"{leg['leg']} {words.exact(leg['s'])}{baked}" + ("" if leg["over"] else " so far")

    # What took no time needs no words, but for an image that a bake has saved the time of.
    legs = [
        span(leg)
        for leg in began["legs"]
        if leg["s"] >= 1 or not leg["over"] or (leg["leg"] == "image" and began["baked"])
    ]
    cost = words.usd(began["cost_usd"])
    return f"{words.exact(began['s'])}, {cost}: {', '.join(legs)}"


# -- one instance ------------------------------------------------------------------------------


def _instance(instance: Json, now: str) -> Iterator[Fact]:
    yield "copying", _copying(instance["copying"])
    figures = instance["figures"]
    if figures is not None and not _is_old(figures["at"], now):
        yield "gpu", _gpus(figures)
        yield "machine", _machine(figures)
        yield "each step", _step(figures)
    trouble = instance["clock_trouble"]
    yield "clock", f"wrong: {trouble}" if trouble else None
    yield "stalled", _stalled(instance)
    for advice in instance["advice"]:
        yield "advice", f"{advice['what']}. {advice['why']} {advice['change']}"


def _is_old(at: str, now: str) -> bool:
    from spotrunner.cli import words

    then, today = words.instant(at), words.instant(now)
    assert then is not None
    assert today is not None
    return (today - then).total_seconds() > OLD_S


def _copying(copying: Json | None) -> str | None:
    from spotrunner.cli import words

    if copying is None:
        return None
    total = copying["total_bytes"]
    amount = _size(copying["bytes"]) if total is None else _of(copying["bytes"], total)
    parts = [f"{copying['source']}: {amount}"]
    if copying["total_files"]:
        parts.append(f"{copying['files']} of {copying['total_files']} files")
    if copying["bytes_s"]:
        parts.append(_rate(copying["bytes_s"]))
    if copying["left_s"] is not None:
        parts.append(f"{words.exact(copying['left_s'])} left")
    return ", ".join(parts)


def _gpus(figures: Json) -> str | None:
    """One by one, but those of a kind together: there may be eight."""
    gpus = figures["gpus"]
    if not gpus:
        return None
    name = gpus[0]["name"]
    if len(gpus) == 1:
        return f"{_gpu(gpus[0])} ({name})"
    used = [gpu["used_percent"] for gpu in gpus if gpu["used_percent"] is not None]
    spread = f"used {min(used)} to {max(used)}%, " if used else ""
    fullest = max(gpus, key=lambda gpu: gpu["memory_used_mib"] or 0)
    return f"{len(gpus)} of them, {spread}the fullest {_memory(fullest) or 'unknown'} ({name})"


def _gpu(gpu: Json) -> str:
    told = [
        None if gpu["used_percent"] is None else f"used {gpu['used_percent']}%",
        _memory(gpu),
        None if gpu["temperature_c"] is None else f"{gpu['temperature_c']} °C",
        None if gpu["power_w"] is None else f"{gpu['power_w']:.0f} W",
    ]
    return ", ".join(part for part in told if part) or "tells nothing"


def _memory(gpu: Json) -> str | None:
    used, total = gpu["memory_used_mib"], gpu["memory_total_mib"]
    return None if used is None or total is None else _of(used * _MIB, total * _MIB)


def _machine(figures: Json) -> str | None:
    used, total = figures["memory_used_bytes"], figures["memory_total_bytes"]
    free = figures["disk_free_bytes"]
    told = [
        None if figures["cpu_share"] is None else f"CPU {100 * figures['cpu_share']:.0f}%",
        None if used is None or total is None else f"memory {_of(used, total)}",
        None if free is None else f"disk {_size(free)} free{_traffic(figures)}",
        _network(figures),
    ]
    return ", ".join(part for part in told if part) or None


def _traffic(figures: Json) -> str:
    """Of the disk, where there is any to speak of."""
    rates = {
        "reads": figures["disk_read_bytes_s"],
        "writes": figures["disk_written_bytes_s"],
    }
    told = [f"{name} {_rate(rate)}" for name, rate in rates.items() if rate and rate >= _MIB]
    return f" ({', '.join(told)})" if told else ""


def _network(figures: Json) -> str | None:
    rates = {"in": figures["received_bytes_s"], "out": figures["sent_bytes_s"]}
    told = [f"{_rate(rate)} {name}" for name, rate in rates.items() if rate and rate >= _MIB]
    return f"network {', '.join(told)}" if told else None


def _step(figures: Json) -> str | None:
    """Only what the trainer made steps in counts, so that it is known a few minutes later."""
    step_s = figures["step_s"]
    if step_s is None:
        return None
    told = [_seconds(step_s)]
    if figures["input_wait_share"] is not None:
        told.append(f"{100 * figures['input_wait_share']:.0f}% of it waits for input")
    if figures["gradient_sync_share"] is not None:
        told.append(f"{100 * figures['gradient_sync_share']:.0f}% for gradients")
    if figures["busy_share"] is not None:
        told.append(f"the GPU works {100 * figures['busy_share']:.0f}% of the time")
    return ", ".join(told)


def _stalled(instance: Json) -> str | None:
    times = {0: "", 1: "once"}.get(instance["restarts"], f"{instance['restarts']} times")
    again = f"the trainer made no steps and was started again in place {times}" if times else ""
    if instance["stalled"]:
        return again or "the trainer makes no steps"
    return again or None


# -- numbers -----------------------------------------------------------------------------------


def _of(part_bytes: float, whole_bytes: float) -> str:
    """`1.2 of 8.0 GiB`, both in the unit of the whole."""
    unit, name = (_GIB, "GiB") if whole_bytes >= _GIB else (_MIB, "MiB")
    return f"{part_bytes / unit:.1f} of {whole_bytes / unit:.1f} {name}"


def _size(size_bytes: float) -> str:
    if size_bytes >= 10 * _GIB:
        return f"{size_bytes / _GIB:.0f} GiB"
    if size_bytes >= _GIB:
        return f"{size_bytes / _GIB:.1f} GiB"
    return f"{size_bytes / _MIB:.1f} MiB"


def _rate(bytes_s: float) -> str:
    return f"{_size(bytes_s)}/s"


def _seconds(span_s: float) -> str:
    return f"{span_s:.3g} s" if span_s >= 0.1 else f"{1000 * span_s:.3g} ms"
