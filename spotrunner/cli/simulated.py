"""What `spotrunner simulate` prints of a back-test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from spotrunner.cli import words
from spotrunner.cli.failure import Exit, Failure
from spotrunner.cli.options import Output
from spotrunner.cli.output import display, print_json, say, table
from spotrunner.core.states import JobState
from spotrunner.core.windows import words as window_words
from spotrunner.sim.backtest import (
    BackTest,
    Setting,
    Spread,
    Summary,
    conclusion,
    on_demand_usd_micros,
    perfect,
    summary,
    too_short,
)

_MICROS = 1_000_000


def say_before(setting: Setting) -> None:
    """Where the history comes from, and what is odd about it."""
    history = setting.history
    say(
        f"{words.count(len(history.pools), 'pool')} from {history.start:%Y-%m-%d %H:%M} to"
        f" {history.end:%Y-%m-%d %H:%M} UTC; {history.provenance}"
    )
    short = too_short(setting)
    for line in (*history.warnings, *([short] if short else [])):
        say(f"warning: {line}")


def show(test: BackTest, output: Output, plot: Path | None = None) -> None:
    """Raises Failure where the chart cannot be written, after all else."""
    done, asked = len(test.outcomes), test.setting.runs
    if not test.is_whole:
        say(f"stopped: {done} of {asked} runs are done" + (", which say:" if done else ""))
    if not done:
        raise typer.Exit(int(Exit.FAILED))
    if output is Output.JSON:
        print_json(facts(test))
    else:
        _print(test)
    if plot is not None:
        # After the figures: they are not lost where the chart cannot be written.
        _draw(test, plot)
    if not test.is_whole:
        raise typer.Exit(int(Exit.FAILED))


# -- for people --------------------------------------------------------------------------------

# As many columns as 80 characters take: the rest is in the JSON.
_HEADERS = ("POLICY", "USD", "P10", "P50", "P90", "SAVED", "DONE IN", "LATE", "CUTS", "OD")


def _print(test: BackTest) -> None:
    setting = test.setting
    rows = [_row(summary(test, name), setting) for name in setting.names]
    # The conclusion is what was asked for: it goes where the table goes.
    typer.echo(conclusion(test, setting.names[0]) + "\n")
    display(table(_HEADERS, rows, right=_HEADERS[1:], whole=_HEADERS[:1]))
    for line in _notes(test):
        say(line)


def _row(found: Summary, setting: Setting) -> list[str | None]:
    cost, finish = found.cost_usd_micros, found.finish_s
    return [
        found.policy,
        *(_plain_usd(micros) for micros in (cost.mean, cost.p10, cost.p50, cost.p90)),
        words.percent(found.saved_fraction),
        words.duration(finish.p50) if finish else None,
        None if setting.deadline_s is None else str(found.missed),
        f"{found.interruptions.mean:.1f}",
        words.percent(found.on_demand_share),
    ]


def _plain_usd(micros: float) -> str:
    """Under its header, without the sign."""
    return (_usd(micros) or "").lstrip("$")


def _notes(test: BackTest) -> Iterator[str]:
    setting = test.setting
    spec = setting.spec
    within = f" in {window_words(spec.window)}" if spec.window else ""
    asked = "" if setting.deadline_s is None else f", {words.duration(setting.deadline_s)} of time"
    yield (
        f"{words.count(len(test.outcomes), 'run')} of {words.duration(spec.work_s)} of"
        f" work{within}{asked}, {words.duration(setting.paces.changeover_s)} from a launch to its"
        f" first step; on-demand from beginning to end costs {_usd(on_demand_usd_micros(setting))}"
    )
    foresight, bound = perfect(test, free_hours=False), perfect(test, free_hours=True)
    if foresight is not None and bound is not None:
        yield (
            f"perfect foresight would have paid {_usd(foresight.mean)}; no policy can pay less than"
            f" {_usd(bound.mean)}, which takes every free hour before an interruption"
        )
    elif setting.deadline_s is not None:
        yield "perfect foresight could not have met the deadline either"
    for name in setting.names:
        found = summary(test, name)
        if found.unfinished:
            yield (
                f"warning: {name} did not end in {found.unfinished} of {found.runs} runs:"
                f" {found.why_unfinished}"
            )


def _usd(micros: float) -> str | None:
    return words.usd(micros / _MICROS)


# -- for programs ------------------------------------------------------------------------------


def facts(test: BackTest) -> dict[str, Any]:
    setting, history = test.setting, test.setting.history
    return {
        "conclusion": conclusion(test, setting.names[0]),
        "runs": len(test.outcomes),
        "runs_asked": setting.runs,
        "seed": setting.seed,
        "work_s": setting.spec.work_s,
        "deadline_s": setting.deadline_s,
        "changeover_s": setting.paces.changeover_s,
        "checkpoint_s": setting.paces.checkpoint_every_s,
        "history": {
            "source": history.source,
            "from": history.start.isoformat(),
            "to": history.end.isoformat(),
            "capacity": "recorded" if history.knows_capacity else "synthetic",
            "pools": [str(each.pool) for each in history.pools],
        },
        "warnings": list(history.warnings),
        "ondemand_usd": on_demand_usd_micros(setting) / _MICROS,
        "bound_usd": _spread(perfect(test, free_hours=True), _MICROS),
        "foresight_usd": _spread(perfect(test, free_hours=False), _MICROS),
        "policies": [_policy(summary(test, name)) for name in setting.names],
        "all_runs": [
            _run(test, index, name) for index in range(len(test.outcomes)) for name in setting.names
        ],
    }


def _policy(found: Summary) -> dict[str, Any]:
    return {
        "policy": found.policy,
        "cost_usd": _spread(found.cost_usd_micros, _MICROS),
        "finish_s": _spread(found.finish_s),
        "interruptions": _spread(found.interruptions),
        "ondemand_share": found.on_demand_share,
        "saved_fraction": found.saved_fraction,
        "missed": found.missed,
        "unfinished": found.unfinished,
        "moves": found.moves,
        "launches": found.launches,
        "refusals": found.refusals,
    }


def _run(test: BackTest, index: int, name: str) -> dict[str, Any]:
    run = test.of(name)[index]
    state = JobState.SUCCEEDED.value if run.finished_at else run.why
    return {
        "run": test.outcomes[index].index,
        "policy": name,
        "start": run.start.isoformat(),
        "state": state,
        "cost_usd": run.cost_usd_micros / _MICROS,
        "finish_s": run.finish_s,
        "in_time": run.in_time,
        "interruptions": run.interruptions,
        "ondemand_share": run.on_demand_share,
    }


def _spread(found: Spread | None, unit: float = 1) -> dict[str, float] | None:
    if found is None:
        return None
    return {
        "mean": found.mean / unit,
        "p10": found.p10 / unit,
        "p50": found.p50 / unit,
        "p90": found.p90 / unit,
    }


# -- the chart ---------------------------------------------------------------------------------


def check_plot(plot: Path) -> None:
    """Before an hour of work is done for it. Raises Failure."""
    from spotrunner.cli import simulated_chart

    problem = simulated_chart.problem(plot)
    if problem is not None:
        raise Failure(problem, Exit.BAD_INPUT)


def _draw(test: BackTest, plot: Path) -> None:
    from spotrunner.cli import simulated_chart

    try:
        simulated_chart.draw(test, plot)
    except OSError as error:
        raise Failure(
            f"--plot {plot} cannot be written: {error.strerror or error}; name another file, the"
            " same --seed draws the same runs"
        ) from None
    say(f"drawn into {plot}")
