"""A stand-in for docker: a container is a local process with the environment, the folder and the
mounts that it was given. What it does not know it refuses, as docker does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence

from spotrunner.lab.shims import docker_run, images
from spotrunner.lab.shims.containers import all_of, named
from spotrunner.lab.shims.errors import WrongUse
from spotrunner.lab.shims.machine import Machine
from spotrunner.lab.shims.signals import number_of, wait_for_exit


def main(lab: str, *arguments: str) -> int:
    machine = Machine.read(lab)
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    perform = _VERBS.get(verb)
    if perform is None:
        print(f"docker: '{verb}' is not a docker command.", file=sys.stderr)
        return 1
    try:
        return perform(machine, rest)
    except WrongUse as error:
        print(error, file=sys.stderr)
        return 125 if verb == "run" else 1


def _pull(machine: Machine, arguments: Sequence[str]) -> int:
    names = [argument for argument in arguments if argument not in ("--quiet", "-q")]
    if len(names) != 1 or names[0].startswith("-"):
        raise WrongUse('"docker pull" requires exactly 1 argument.')
    images.pull(machine, names[0])
    print(names[0])
    return 0


def _tag(machine: Machine, arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        raise WrongUse('"docker tag" requires exactly 2 arguments.')
    images.tag(machine, *arguments)
    return 0


def _options(
    arguments: Sequence[str], flags: Mapping[str, str], with_value: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Options by their long names, and the other arguments. Raises WrongUse."""
    options, others, left = {}, [], list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if argument in flags:
            options[flags[argument]] = "true"
        elif name in with_value:
            if not equals and not left:
                raise WrongUse(f"flag needs an argument: {argument}")
            options[with_value[name]] = value if equals else left.pop(0)
        elif argument.startswith("-"):
            raise WrongUse(f"unknown flag: {argument}")
        else:
            others.append(argument)
    return options, others


def _kill(machine: Machine, arguments: Sequence[str]) -> int:
    options, names = _options(arguments, {}, {"--signal": "signal", "-s": "signal"})
    number = number_of(options.get("signal", "KILL"))
    for name in names:
        container = named(machine, name)
        if container is None:
            raise WrongUse(f"Error response from daemon: No such container: {name}")
        if not container.running:
            raise WrongUse(f"Error response from daemon: Container {name} is not running")
        container.deliver(number)
        print(name)
    return 0


def _stop(machine: Machine, arguments: Sequence[str]) -> int:
    options, names = _options(arguments, {}, {"--time": "t", "-t": "t", "--timeout": "t"})
    for name in names:
        container = named(machine, name)
        if container is None:
            raise WrongUse(f"Error response from daemon: No such container: {name}")
        container.deliver(number_of("TERM"))
        if not wait_for_exit(container, float(options.get("t", "10"))):
            container.deliver(number_of("KILL"))
            wait_for_exit(container, 10.0)
        print(name)
    return 0


def _remove(machine: Machine, arguments: Sequence[str]) -> int:
    options, names = _options(arguments, {"--force": "force", "-f": "force"}, {})
    for name in names:
        container = named(machine, name)
        if container is None:
            if "force" in options:
                continue
            raise WrongUse(f"Error response from daemon: No such container: {name}")
        if container.running and "force" not in options:
            raise WrongUse("Error response from daemon: cannot remove container: it is running")
        container.deliver(number_of("KILL"))
        wait_for_exit(container, 10.0)
        container.remove()
        print(name)
    return 0


def _inspect(machine: Machine, arguments: Sequence[str]) -> int:
    _, names = _options(arguments, {}, {"--type": "type"})
    found = []
    for name in names:
        container = named(machine, name)
        if container is None:
            raise WrongUse(f"Error response from daemon: No such container: {name}")
        spec, state = container.spec, container.state
        found.append(
            {
                "Id": container.id,
                "Name": f"/{spec['name']}",
                "Image": spec["image"],
                "State": {
                    "Status": state.get("status", "created"),
                    "Running": container.running,
                    "Pid": state.get("pid") or 0,
                    "OOMKilled": False,
                    "ExitCode": state.get("exit_code") or 0,
                    "Error": state.get("error", ""),
                },
                "Config": {"Env": [f"{k}={v}" for k, v in spec["environment"].items()]},
                "Mounts": spec["mounts"],
            }
        )
    print(json.dumps(found, indent=4))
    return 0


def _image(machine: Machine, arguments: Sequence[str]) -> int:
    if arguments[:1] != ("inspect",) or len(arguments) != 2:
        raise WrongUse(f"docker: the lab knows no 'image {' '.join(arguments)}'")
    digest = images.digest(machine, arguments[1])
    if digest is None:
        raise WrongUse(f"Error response from daemon: No such image: {arguments[1]}")
    name = f"{images.repository(arguments[1])}@{digest}"
    print(json.dumps([{"Id": digest, "RepoTags": [], "RepoDigests": [name]}], indent=4))
    return 0


def _logs(machine: Machine, arguments: Sequence[str]) -> int:
    options, names = _options(arguments, {}, {"--tail": "tail", "-n": "tail"})
    if len(names) != 1:
        raise WrongUse('"docker logs" requires exactly 1 argument.')
    container = named(machine, names[0])
    if container is None:
        raise WrongUse(f"Error response from daemon: No such container: {names[0]}")
    count = options.get("tail", "all")
    for name, target in (("out", sys.stdout), ("err", sys.stderr)):
        path = container.folder / name
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
        target.writelines(lines if count == "all" else lines[-int(count) :])
    return 0


def _list(machine: Machine, arguments: Sequence[str]) -> int:
    flags = {"--all": "all", "-a": "all", "--quiet": "quiet", "-q": "quiet"}
    options, _ = _options(arguments, flags, {})
    shown = [c for c in all_of(machine) if c.running or "all" in options]
    if "quiet" not in options:
        print("CONTAINER ID\tIMAGE\tSTATUS\tNAMES")
    for container in shown:
        spec, state = container.spec, container.state
        line = f"{container.id[:12]}\t{spec['image']}\t{state.get('status')}\t{spec['name']}"
        print(container.id[:12] if "quiet" in options else line)
    return 0


_VERBS: Mapping[str, Callable[[Machine, Sequence[str]], int]] = {
    "pull": _pull,
    "tag": _tag,
    "run": docker_run.run,
    "kill": _kill,
    "stop": _stop,
    "rm": _remove,
    "inspect": _inspect,
    "image": _image,
    "logs": _logs,
    "ps": _list,
}
