"""`spotrunner bake`: machine images with a container's image and the agent on them. Goes straight
to EC2, by the daemon's settings; the daemon takes what it finds there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from spotrunner.cli.failure import BadInput, Exit, Failure, WrongFile
from spotrunner.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from spotrunner.app.bake import Bakery
    from spotrunner.app.bake_plan import Plan, Wish
    from spotrunner.core.baked import BakedImage
    from spotrunner.daemon.settings import Settings

T = TypeVar("T")

bake = typer.Typer(name="bake", invoke_without_command=True)
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="SPOTRUNNER_CONFIG",
        show_envvar=True,
        help="The daemon's settings (YAML).",
    ),
]
RegionsOption = Annotated[
    str | None, typer.Option(metavar="A,B", help="Default: all regions of the settings.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@bake.callback()
def make(
    context: typer.Context,
    config: ConfigOption = None,
    regions: RegionsOption = None,
    image: Annotated[
        str | None, typer.Option(help="The container's image (default: that of jobs).")
    ] = None,
    for_: Annotated[
        str,
        typer.Option("--for", metavar="TYPE", help="A type or family of the GPUs it is for."),
    ] = "g4dn",
    ami: Annotated[
        str | None,
        typer.Option(metavar="REGION=AMI", help="What to add to (default: AWS's, or `amis`)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be made, and what it costs.")
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a machine image with the container's image and the agent on it.

    Instances of jobs that name the container's image then start minutes earlier: the daemon takes
    the machine image by itself. It is made on a small instance in one region, and copied to the
    others. The command says what that costs at the most, and asks. Ctrl-C ends the instance; the
    same command again goes on with what is there.
    """
    if context.invoked_subcommand is not None:
        return
    from spotrunner.cli.output import print_json, say

    settings = _settings(config)
    wish = _wish(settings, regions, image, for_, ami)
    bakery = _meant(lambda: _bakery(settings))
    plan = _meant(lambda: bakery.planner.plan(wish))
    if dry_run:
        _show_plan(plan, output)
        return
    for line in _plan_lines(plan):
        say(line)
    _agree(plan, yes)
    try:
        made = _meant(lambda: bakery.bake(plan))
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with what is there")
        raise typer.Exit(int(Exit.FAILED)) from None
    if output is Output.JSON:
        print_json({"images": [_row(it, {}) for it in made]})
    else:
        _show(bakery, made)
        say(
            f"jobs with image: {plan.recipe.container} and a disk_gib of at least {plan.disk_gib}"
            " start from it, where no amis are named"
        )


@bake.command("ls")
def list_(
    config: ConfigOption = None,
    regions: RegionsOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What there is, and what keeping it costs."""
    from spotrunner.cli.output import print_json, say

    settings = _settings(config)
    where = _regions(settings, regions)
    bakery = _meant(lambda: _bakery(settings))
    images = _meant(lambda: _all(bakery, where))
    if output is Output.JSON:
        used = _meant(lambda: _used(bakery, images))
        print_json({"images": [_row(image, used) for image in images]})
    elif not images:
        say(f"nothing is baked in {', '.join(where)}: spotrunner bake")
    else:
        _show(bakery, images)


@bake.command("rm")
def remove(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `bake ls` shows them.")
    ] = None,
    old: Annotated[
        bool, typer.Option("--old", help="All that a newer one stands in for, and what failed.")
    ] = False,
    config: ConfigOption = None,
    regions: RegionsOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove images, with their snapshots.

    Instances that were started from one go on. A launch that was about to take one is refused by
    EC2, and its job does not ask for that type in that region again for a while; a minute later
    nobody takes it any more.
    """
    from spotrunner.cli.output import print_json, say

    if bool(ids) == old:
        raise BadInput("name images (spotrunner bake ls shows them), or say --old")
    if not yes:
        _need_someone()
    settings = _settings(config)
    bakery = _meant(lambda: _bakery(settings))
    found = _meant(lambda: _all(bakery, _regions(settings, regions)))
    chosen = _chosen(found, ids or [])
    if not chosen:
        say("there is no old one")
        return
    for image in chosen:
        container = image.label.recipe.container
        say(f"{image.id} in {image.region}: {container}, {image.made_at:%Y-%m-%d}")
    if not (yes or typer.confirm("Remove them, with their snapshots?", default=False, err=True)):
        say("nothing was removed")
        raise typer.Exit(int(Exit.FAILED))
    for image in chosen:
        _meant(partial(bakery.images.remove, image))
        say(f"removed {image.id} in {image.region}")
    if output is Output.JSON:
        print_json({"removed": [_row(image, {}) for image in chosen]})


def _agree(plan: Plan, yes: bool) -> None:
    """After the plan was told, so that who cannot be asked has read it."""
    if yes or plan.is_done:
        return
    _need_someone()
    if not typer.confirm("Make it?", default=False, err=True):
        raise typer.Exit(int(Exit.FAILED))


def _need_someone() -> None:
    if not sys.stdin.isatty():
        raise BadInput("nobody can be asked (stdin is no terminal): add --yes")


# -- what is asked for -------------------------------------------------------------------------


def _settings(config: Path | None) -> Settings:
    from spotrunner.core.located import BadFile
    from spotrunner.daemon.settings import read_settings

    if config is None:
        raise BadInput("the daemon's settings are needed: --config FILE")
    try:
        return read_settings(config)
    except BadFile as error:
        raise WrongFile(str(error)) from None


def _regions(settings: Settings, text: str | None) -> tuple[str, ...]:
    from spotrunner.core.catalogue import region_problem

    if text is None:
        return settings.regions
    named = tuple(dict.fromkeys(it.strip() for it in text.split(",") if it.strip()))
    if not named:
        raise BadInput("--regions: name at least one, such as us-east-1,us-west-2")
    for region in named:
        if (problem := region_problem(region)) is not None:
            raise BadInput(f"--regions: {problem}")
    return named


def _wish(
    settings: Settings, regions: str | None, image: str | None, for_: str, ami: str | None
) -> Wish:
    from spotrunner.app.bake_plan import Wish
    from spotrunner.web.schema import IMAGE, image_problem

    container = image or IMAGE
    if (problem := image_problem(container)) is not None:
        raise BadInput(f"--image: {problem}")
    return Wish(
        container=container,
        regions=_regions(settings, regions),
        kind=_kind(for_),
        base=None if ami is None else _base(ami),
    )


def _kind(text: str) -> str:
    """A type of it, where it is a family."""
    from spotrunner.core.catalogue import TYPES, USABLE, closest_name, type_problem

    name = next((name for name, kind in TYPES.items() if text in (name, kind.family)), None)
    if name is None:
        likely = closest_name(text, {*USABLE, *(TYPES[it].family for it in USABLE)})
        raise BadInput(
            f"--for: {text} is no GPU instance type or family that is known here"
            + (f"; nearest: {likely}" if likely else "")
        )
    if (problem := type_problem(name)) is not None:
        raise BadInput(f"--for: {problem}")
    return name


def _base(text: str) -> tuple[str, str]:
    import re

    from spotrunner.core.catalogue import region_problem

    region, _, id_ = text.partition("=")
    if not re.fullmatch(r"ami-[0-9a-f]{8,17}", id_):
        raise BadInput(
            f"--ami: expected REGION=ami-…, such as us-east-1=ami-01234567, found {text}"
        )
    if (problem := region_problem(region)) is not None:
        raise BadInput(f"--ami: {problem}")
    return region, id_


def _chosen(found: Sequence[BakedImage], ids: Sequence[str]) -> tuple[BakedImage, ...]:
    from spotrunner.core.baked import superseded

    if not ids:
        return superseded(found)
    known = {image.id: image for image in found}
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise BadInput(f"no image {', '.join(missing)} of ours there: see spotrunner bake ls")
    return tuple(known[id_] for id_ in dict.fromkeys(ids))


# -- asking AWS --------------------------------------------------------------------------------


def _bakery(settings: Settings) -> Bakery:
    from spotrunner.app.bake import bakery as over_aws
    from spotrunner.cli.output import say

    return over_aws(settings, say)


def _meant(call: Callable[[], T]) -> T:
    from spotrunner.app.bake import BakeFailed
    from spotrunner.ports import PortError

    try:
        return call()
    except (PortError, BakeFailed) as error:
        raise Failure(str(error)) from error


def _all(bakery: Bakery, regions: Sequence[str]) -> list[BakedImage]:
    found = [it for region in regions for it in bakery.images.baked(region, bakery.installation)]
    return sorted(found, key=lambda it: (it.label.recipe.container, it.region, it.made_at))


def _used(bakery: Bakery, images: Sequence[BakedImage]) -> Mapping[str, int]:
    """Bytes that are billed, by snapshot."""
    used: dict[str, int] = {}
    for region in dict.fromkeys(image.region for image in images):
        ids = [id_ for image in images if image.region == region for id_ in image.snapshot_ids]
        used |= bakery.images.used_bytes(region, ids)
    return used


# -- showing -----------------------------------------------------------------------------------


def _show_plan(plan: Plan, output: Output) -> None:
    from spotrunner.cli.output import display, print_json

    if output is Output.JSON:
        print_json({"plan": _planned(plan)})
    else:
        display(*_plan_lines(plan))


def _plan_lines(plan: Plan) -> Iterator[str]:
    from spotrunner.cli import words

    if plan.is_done:
        yield "there is one already, with the newest base and this version's agent"
        return
    recipe, costs = plan.recipe, plan.costs
    yield f"{recipe.container} and the agent, on {recipe.base} ({recipe.driver.value} driver)"
    if plan.image is None:
        what = f"an on-demand {plan.instance_type}" if plan.bench is None else plan.bench.id
        yield f"{what} in {plan.region}, terminated when done: {_instance_cost(plan)}"
    if plan.missing:
        most = words.usd(costs.copies / 1e6)
        yield f"copies in {', '.join(plan.missing)}: {most} at the most, for their bytes"
    month = words.usd(costs.keeping_a_month / 1e6)
    yield f"snapshots: {month} a month at the most, until: spotrunner bake rm"
    yield "none of it counts against a budget"
    yield f"only jobs with a disk_gib of at least {plan.disk_gib} can start from it"
    if plan.overruled:
        yield (
            f"amis of the settings name another image in {', '.join(plan.overruled)}, and that one"
            " is taken: take it out there, and name it with --ami when you bake"
        )


def _instance_cost(plan: Plan) -> str:
    from spotrunner.cli import words

    if plan.costs.instance is None:
        return "what it costs is unknown (AWS lists no price of it there), for an hour at the most"
    return f"{words.usd(plan.costs.instance / 1e6)} at the most, in an hour"


def _planned(plan: Plan) -> dict[str, Any]:
    costs = plan.costs
    return {
        "done": plan.is_done,
        "container": plan.recipe.container,
        "base": plan.recipe.base,
        "region": plan.region,
        "regions": plan.regions,
        "copies_to": plan.missing,
        "instance_type": plan.instance_type if plan.image is None else None,
        "instance_usd": None if costs.instance is None else costs.instance / 1e6,
        "copies_usd": costs.copies / 1e6,
        "keeping_usd_month": costs.keeping_a_month / 1e6,
        "disk_gib": plan.disk_gib,
        "overruled_in": plan.overruled,
    }


def _show(bakery: Bakery, images: Sequence[BakedImage]) -> None:
    from spotrunner.cli import words
    from spotrunner.cli.output import display, table

    used, now = _meant(lambda: _used(bakery, images)), bakery.clock.now()
    headers = [
        "REGION",
        "IMAGE",
        "STATE",
        "CONTAINER",
        "FOR",
        "BASE",
        "AGENT",
        "AGE",
        "SIZE",
        "A MONTH",
    ]
    rows = []
    for image in images:
        row, recipe = _row(image, used), image.label.recipe
        size, month = row["used_bytes"], row["usd_month"]
        rows.append(
            [
                image.region,
                image.id,
                image.state,
                recipe.container,
                f"{recipe.architecture.value} {recipe.driver.value}",
                recipe.base.partition("/")[2],
                recipe.agent_sha256[:8],
                words.duration((now - image.made_at).total_seconds()),
                None if size is None else f"{size / 2**30:.0f} GiB",
                words.usd(month),
            ]
        )
    display(table(headers, rows, right=("SIZE", "A MONTH"), whole=headers[:2]))


def _row(image: BakedImage, used: Mapping[str, int]) -> dict[str, Any]:
    from spotrunner.core.charges import snapshot_usd_micros_month

    recipe = image.label.recipe
    sizes = [used[id_] for id_ in image.snapshot_ids if id_ in used]
    size = sum(sizes) if sizes else None
    micros = None if size is None else snapshot_usd_micros_month(image.region, size)
    return {
        "region": image.region,
        "image": image.id,
        "state": image.state,
        "container": recipe.container,
        "digest": image.label.digest,
        "base": recipe.base,
        "driver": recipe.driver.value,
        "architecture": recipe.architecture.value,
        "agent": recipe.agent_sha256,
        "made_at": image.made_at.isoformat().replace("+00:00", "Z"),
        "disk_gib": image.disk_gib,
        "used_bytes": size,
        "usd_month": None if micros is None else micros / 1e6,
    }
