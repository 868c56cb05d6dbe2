"""`spotrunner simulate`: what a job would have cost, and whether it would have been in time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spotrunner.cli.failure import BadInput, WrongFile
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

if TYPE_CHECKING:
    from spotrunner.cli.past import Past
    from spotrunner.core.model import JobSpec
    from spotrunner.sim.backtest import BackTest, Setting
    from spotrunner.sim.lifetimes import Paces

_PANEL = "History"
_HISTORY = "30d"
PoliciesOption = Annotated[
    list[str] | None,
    typer.Option("--policy", "-p", metavar="POLICY", help="May be repeated."),
]
HistoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOW-LONG",
        help="How much of what the daemon has read.",
        show_default=_HISTORY,
        rich_help_panel=_PANEL,
    ),
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="A folder of recorded prices (*.csv, *.csv.gz).", rich_help_panel=_PANEL
    ),
]
TracesOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A folder of availability traces.", rich_help_panel=_PANEL),
]
OnDemandOption = Annotated[
    list[str] | None,
    typer.Option(
        "--on-demand",
        metavar="TYPE=USD",
        help="An on-demand price an hour, for --csv; may be repeated.",
        rich_help_panel=_PANEL,
    ),
]
WorkOption = Annotated[
    str | None, typer.Option(metavar="HOW-LONG", help="In place of the job file's `work`.")
]
DeadlineOption = Annotated[
    str | None, typer.Option(metavar="HOW-LONG", help="In place of the job file's `deadline`.")
]
ChangeoverOption = Annotated[
    str, typer.Option(metavar="HOW-LONG", help="From a launch to its first step (see `show`).")
]
CheckpointOption = Annotated[
    str, typer.Option(metavar="HOW-LONG", help="How often the trainer saves.")
]
LateOption = Annotated[
    bool, typer.Option("--allow-late", help="Go on where not even on-demand is in time.")
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="A value of envs."),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it too, into a .png or .svg."),
]


def simulate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The job file (YAML).")],
    policy: PoliciesOption = None,
    history: HistoryOption = None,
    csv: CsvOption = None,
    traces: TracesOption = None,
    on_demand: OnDemandOption = None,
    runs: Annotated[int, typer.Option(help="How many, spread evenly over the history.")] = 100,
    seed: Annotated[int, typer.Option(help="Of what has to be drawn.")] = 1,
    work: WorkOption = None,
    deadline: DeadlineOption = None,
    changeover: ChangeoverOption = "5m",
    checkpoint: CheckpointOption = "10m",
    allow_late: LateOption = False,
    env: EnvOption = None,
    plot: PlotOption = None,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """What a job would have cost in the past, and whether it would have been in time.

    Runs the daemon's own decisions over recorded prices, from many starts: --csv, --traces, or what
    the daemon has read of the last days.
    """
    from spotrunner.cli import simulated

    if plot is not None:
        simulated.check_plot(plot)
    _check_range("--runs", runs, 1, 10_000)
    spec, deadline_s = _spec(file, env or [], work, deadline)
    paces = _paces(changeover, checkpoint)
    past = _past(spec, history, csv, traces, on_demand or [], api_file)
    setting = _setting(spec, deadline_s, past, paces, policy or [], runs, seed)
    _check_late(setting, allow_late)
    simulated.say_before(setting)
    found = _run(setting)
    simulated.show(found, output, plot)


# -- the job -----------------------------------------------------------------------------------


def _spec(
    file: Path, env: Sequence[str], work: str | None, deadline: str | None
) -> tuple[JobSpec, float | None]:
    """The spec, and how long a run has. Raises WrongFile, BadInput."""
    from spotrunner.cli import words
    from spotrunner.cli.jobfile import given_envs, read_job
    from spotrunner.core.located import BadFile
    from spotrunner.web.schema import BY_DEADLINE, to_spec

    try:
        job = read_job(file, given_envs(env)).job
    except BadFile as error:
        raise WrongFile(str(error)) from None
    now = _now()
    spec = to_spec(job, None, now)
    if work is not None:
        spec = dataclasses.replace(spec, work_s=_seconds("--work", work))
    if spec.work_s is None:
        raise BadInput(
            f"{file} does not say how long the training takes: add `work: 8h` to it, or --work 8h"
            f" (on {spec.instance_types[0]}; a rough guess is enough)"
        )
    left_s = (spec.deadline_at - now).total_seconds() if spec.deadline_at else None
    if deadline is not None:
        left_s = float(_seconds("--deadline", deadline))
        if job.policy is None:
            spec = dataclasses.replace(spec, policy=BY_DEADLINE)
    if left_s is not None and left_s <= 0:
        raise BadInput(
            f"the deadline of {file} passed {words.duration(-left_s)} ago: give a later one, or how"
            " long a run has, such as --deadline 12h"
        )
    return dataclasses.replace(spec, deadline_at=None), left_s


def _now() -> dt.datetime:
    """By this machine's clock: only a deadline of the job file that is a time needs it."""
    return dt.datetime.now(dt.timezone.utc)  # noqa: TID251 - nothing here acts by it


def _paces(changeover: str, checkpoint: str) -> Paces:
    from spotrunner.sim.lifetimes import Paces

    changeover_s = _seconds("--changeover", changeover)
    # The daemon gives up on an instance that makes no step in an hour.
    _check_range("--changeover", changeover_s, 60, 3000, "s")
    checkpoint_s = _seconds("--checkpoint", checkpoint)
    _check_range("--checkpoint", checkpoint_s, 10, 86_400, "s")
    return Paces(changeover_s=changeover_s, checkpoint_every_s=checkpoint_s)


def _check_range(option: str, value: int, least: int, most: int, unit: str = "") -> None:
    if not least <= value <= most:
        raise BadInput(f"{option} {value}{unit}: expected {least}{unit} to {most}{unit}")


def _seconds(option: str, text: str) -> int:
    from spotrunner.cli import words

    found = words.seconds(text)
    if found is None:
        raise BadInput(f"{option} {text}: expected a duration such as 8h, 90m or 1h30m")
    return found


# -- the history -------------------------------------------------------------------------------


def _past(
    spec: JobSpec,
    history: str | None,
    csv: Path | None,
    traces: Path | None,
    on_demand: Sequence[str],
    api_file: Path | None,
) -> Past:
    """Raises BadInput, and NoDaemon where there is no daemon and nothing else was named."""
    from spotrunner.cli.failure import NoDaemon
    from spotrunner.cli.past import Past, daemons_past
    from spotrunner.sim.history import BadHistory

    if csv is not None and traces is not None:
        raise BadInput("--csv and --traces are two histories: give one of them")
    named = "--csv" if csv is not None else "--traces" if traces is not None else None
    if history is not None and named is not None:
        raise BadInput(f"{named} and --history are two histories: give one of them")
    if on_demand and csv is None:
        raise BadInput("--on-demand is for the prices of --csv: others bring their own")
    try:
        if csv is not None:
            from spotrunner.sim.history_csv import read_folder

            found = read_folder(csv, spec.instance_types, spec.regions, _prices(on_demand))
            return Past(history=found)
        if traces is not None:
            from spotrunner.sim.history_traces import read_traces

            return Past(history=read_traces(traces, spec.instance_types, spec.regions))
        return daemons_past(spec, _seconds("--history", history or _HISTORY), api_file)
    except BadHistory as error:
        raise BadInput(str(error)) from None
    except NoDaemon as error:
        raise _no_history(error) from None


def _no_history(error: Exception) -> Exception:
    from spotrunner.cli.failure import Exit, Failure

    return Failure(
        f"{error}; without one, name recorded prices with --csv DIR or --traces DIR",
        Exit.NO_DAEMON,
    )


def _prices(words: Sequence[str]) -> Mapping[str, int]:
    from spotrunner.core.catalogue import type_problem
    from spotrunner.sim.history import usd_micros

    found: dict[str, int] = {}
    said: dict[str, str] = {}
    for word in words:
        name, equals, price = word.partition("=")
        if not equals:
            raise BadInput(f"--on-demand {word}: expected TYPE=USD, such as g5.xlarge=1.006")
        problem = type_problem(name)
        if problem is not None:
            raise BadInput(f"--on-demand {word}: {problem}")
        micros = usd_micros(price, f"--on-demand {name}")
        if found.setdefault(name, micros) != micros:
            raise BadInput(
                f"--on-demand {said[name]} and --on-demand {word} are two prices of one type: give"
                " one of them"
            )
        said[name] = word
    return found


# -- the test ----------------------------------------------------------------------------------


def _setting(
    spec: JobSpec,
    deadline_s: float | None,
    past: Past,
    paces: Paces,
    asked: Sequence[str],
    runs: int,
    seed: int,
) -> Setting:
    from spotrunner.sim.backtest import Setting, spread
    from spotrunner.sim.history import BadHistory

    setting = Setting(
        spec=spec,
        history=past.history,
        hazards=past.hazards,
        names=_names(spec, deadline_s, asked),
        deadline_s=deadline_s,
        runs=runs,
        seed=seed,
        paces=paces,
    )
    try:
        spread(setting)
    except BadHistory as error:
        raise BadInput(str(error)) from None
    return setting


def _names(spec: JobSpec, deadline_s: float | None, asked: Sequence[str]) -> tuple[str, ...]:
    """The policies to compare: those asked for, else the job's own with its two neighbours."""
    from spotrunner.core.catalogue import closest_name
    from spotrunner.core.policy.named import policies

    known = policies()
    for name in asked:
        if name not in known:
            likely = closest_name(name, known)
            hint = f"nearest: {likely}" if likely else f"there are {', '.join(sorted(known))}"
            raise BadInput(f"--policy {name}: there is no such policy; {hint}")
        if known[name].needs_deadline and deadline_s is None:
            raise BadInput(f"--policy {name} needs a deadline: add --deadline 12h")
    fits = "cheapest" if deadline_s is None else "deadline"
    names = tuple(dict.fromkeys(asked or (spec.policy, fits, "on_demand")))
    if "planner" in names:
        _check_numpy()
    return names


def _check_numpy() -> None:
    """Before any run: a process of the back-test could only fail with it."""
    from spotrunner.daemon.tables import NUMPY_HINT

    if importlib.util.find_spec("numpy") is None:
        raise BadInput(NUMPY_HINT)


def _check_late(setting: Setting, allow_late: bool) -> None:
    from spotrunner.cli import words
    from spotrunner.cli.output import say
    from spotrunner.sim.backtest import on_demand_finish_s, on_demand_late_s

    if setting.deadline_s is None:
        return
    late_s = on_demand_late_s(setting)
    late = sum(each > 0 for each in late_s)
    if not late:
        return
    takes = words.duration(on_demand_finish_s(setting))
    if late < len(late_s):
        say(
            f"warning: in {late} of {len(late_s)} runs not even on-demand is in time: it takes"
            f" {takes} of the job's window, and they begin when too little of it is left"
        )
        return
    least = "" if setting.spec.window is None else " of the job's window"
    message = (
        f"not even on-demand is in time: it takes {takes}{least}, and a run has"
        f" {words.duration(setting.deadline_s)}, so it is {words.duration(min(late_s))} late"
    )
    if not allow_late:
        raise BadInput(f"{message}; give it more time, or a faster type, or --allow-late")
    say(f"warning: {message}")


def _run(setting: Setting) -> BackTest:
    """With a bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from spotrunner.sim import backtest

    bar = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.disable = not bar.console.is_terminal
    with bar:
        task = bar.add_task("runs", total=setting.runs)
        return backtest.run(setting, progress=lambda done: bar.update(task, completed=done))
