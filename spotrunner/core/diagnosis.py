"""Why a trainer ended as it did, in words of whoever has to change something.

Only ends that can be told for certain by what was printed: everything else is left to the log.
The texts are those of TensorFlow 2.8 to 2.21, Python, bash, docker and NVIDIA's container tools.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What happened, why it happens, and what to change: a sentence each."""

    what: str
    why: str
    change: str


# Done, and stopped on request (docs/trainer-contract).
_MEANT = (0, 75)
_NOT_THERE, _ABORTED, _KILLED, _SEGFAULT, _STOPPED = 127, 134, 137, 139, 143


def diagnose(
    code: int, *, oom_killed: bool, log_tail: Sequence[str], driver: str = ""
) -> Diagnosis | None:
    """None where it cannot be told. `code` as a shell has it; `oom_killed`: the kernel ended it, or
    a process that it had started, for want of memory; `driver`: the version of the GPU's driver, ""
    where there is no GPU."""
    if code in _MEANT or code == _STOPPED:
        return None
    if oom_killed and code == _KILLED:
        return _OUT_OF_MEMORY
    text = "\n".join(log_tail)
    for rule in _RULES:
        if (rule.needs_gpu and not driver) or (rule.codes and code not in rule.codes):
            continue
        found = rule.pattern.search(text)
        if found is not None:
            return rule.tell(found, driver)
    return _PART_OUT_OF_MEMORY if oom_killed else None


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """`codes`: the exit codes with which alone it holds; none: any but a meant one. `needs_gpu`:
    what is no fault on a machine without one."""

    pattern: re.Pattern[str]
    tell: Callable[[re.Match[str], str], Diagnosis]
    codes: tuple[int, ...] = ()
    needs_gpu: bool = False


def _always(what: str, why: str, change: str) -> Callable[[re.Match[str], str], Diagnosis]:
    told = Diagnosis(what=what, why=why, change=change)
    return lambda _found, _driver: told


def _old_driver(_found: re.Match[str], driver: str) -> Diagnosis:
    has = f"driver {driver}" if driver else "driver"
    return Diagnosis(
        what=f"the GPU's {has} is too old for the image's CUDA",
        why="an image brings its own CUDA, which needs a driver of at least its time",
        change="take an image with an older CUDA, or name a newer AMI in amis",
    )


def _no_module(found: re.Match[str], _driver: str) -> Diagnosis:
    name = found["module"] or found["main"]
    top = name.partition(".")[0]
    return Diagnosis(
        what=f"the Python module {name} is not there",
        why="neither the image nor the workdir has it",
        change=f"install it in setup (pip install {top}), put it into the workdir, or take an"
        " image that has it",
    )


def _no_command(found: re.Match[str], _driver: str) -> Diagnosis:
    name = found["command"]
    return Diagnosis(
        what=f"the command {name} is not there",
        why="the image has no program of this name on its PATH",
        change="correct the name in run or setup, install it in setup, or take another image",
    )


def _wrong_cudnn(found: re.Match[str], _driver: str) -> Diagnosis:
    return Diagnosis(
        what=f"the image has cuDNN {found['has']}, and its TensorFlow was built for"
        f" {found['needs']}",
        why="the major versions have to be the same, and the minor one at least as high",
        change="take an image whose cuDNN and TensorFlow fit, such as"
        " tensorflow/tensorflow:2.17.0-gpu, or install the fitting nvidia-cudnn in setup",
    )


def _read_only(found: re.Match[str], _driver: str) -> Diagnosis:
    path = found["path"]
    where = f"{path} cannot be written" if path else "it wrote where nothing can be written"
    return Diagnosis(
        what=f"{where}: a read-only file system",
        why="the workdir and the data are mounted read-only, so that each start finds the same",
        change="write results to $SPOTRUNNER_OUTPUT_DIR, logs to $SPOTRUNNER_LOG_DIR, checkpoints"
        " to $SPOTRUNNER_CHECKPOINT_DIR, and anything else below $HOME or /tmp",
    )


def _denied(found: re.Match[str], _driver: str) -> Diagnosis:
    path = found["path"]
    where = f"for {path}" if path else "by the system"
    return Diagnosis(
        what=f"permission was denied {where}",
        why="the trainer runs as a user without rights, who may write to its own folders and to"
        " $HOME only",
        change="write below $HOME or $SPOTRUNNER_OUTPUT_DIR, install with pip install --user, or"
        " let the job run as root inside its container: as_root: true",
    )


_OUT_OF_MEMORY = Diagnosis(
    what="the machine ran out of memory, and its kernel ended the trainer",
    why="the trainer, its data loaders and what they cache needed more than the instance has",
    change="use fewer data loaders, a smaller shuffle buffer or no cache in memory, or take an"
    " instance type with more memory",
)
_PART_OUT_OF_MEMORY = dataclasses.replace(
    _OUT_OF_MEMORY, what="the machine ran out of memory, and its kernel ended a part of the trainer"
)

# A path as Python and the usual commands put it into a message: in quotes of any kind, or bare
# before a colon.
_PATH_AFTER = r"[^\n]*?: ?['\"‘`](?P<path>[^'\"’`\n]+)['\"’`]"  # noqa: RUF001 -- as coreutils quotes

_RULES: Sequence[_Rule] = (
    # -- of docker: nothing of the job has run
    _Rule(
        pattern=re.compile(
            r'exec: "bash": executable file not found|exec bash failed: No such file'
        ),
        tell=_always(
            "the image has no bash",
            "run and setup are bash",
            "take an image with bash in it, or install it there",
        ),
    ),
    _Rule(
        pattern=re.compile(r"nvidia-container-cli: requirement error: unsatisfied condition"),
        tell=_old_driver,
    ),
    _Rule(
        pattern=re.compile(r"could not select device driver .* with capabilities: \[\[gpu\]\]"),
        tell=_always(
            "docker cannot give GPUs to a container",
            "the machine image has no NVIDIA container toolkit",
            "leave amis out, or name an AMI that has the toolkit",
        ),
    ),
    # -- of the GPU
    _Rule(
        pattern=re.compile(
            r"(?:ResourceExhaustedError|RESOURCE_EXHAUSTED|Resource exhausted)"
            r"[^\n]*(?:\n[^\n]*){0,6}?(?:OOM when allocating|[Oo]ut of memory)"
            r"|CUDA_ERROR_OUT_OF_MEMORY|OOM when allocating tensor"
        ),
        tell=_always(
            "the GPU ran out of memory",
            "the model, its optimizer and one batch do not fit into the GPU together",
            "make the batch smaller, train in mixed precision, or take a type whose GPU has more"
            " memory",
        ),
    ),
    _Rule(
        pattern=re.compile(
            r"CUDA driver version is insufficient for CUDA runtime version"
            r"|CUDA_ERROR_UNSUPPORTED_PTX_VERSION|forward compatibility was attempted on non"
            r"|unsupported toolchain"
        ),
        tell=_old_driver,
    ),
    _Rule(
        pattern=re.compile(r"CUDA_ERROR_NO_BINARY_FOR_GPU|no kernel image is available"),
        tell=_always(
            "the image's CUDA code has nothing for this kind of GPU",
            "its TensorFlow, or an extension in it, was built for other generations of GPUs",
            "take an instance type with a newer GPU, or an image that was built for this one",
        ),
    ),
    _Rule(
        pattern=re.compile(
            r"Loaded runtime CuDNN library: (?P<has>[0-9.]*[0-9]) but source was compiled with:"
            r" (?P<needs>[0-9.]*[0-9])"
        ),
        tell=_wrong_cudnn,
    ),
    # -- of files
    _Rule(
        pattern=re.compile(r"No space left on device|ENOSPC|Disk quota exceeded"),
        tell=_always(
            "the disk is full",
            "data, checkpoints, outputs and what setup installs share it",
            "raise disk_gib in resources, or keep fewer files",
        ),
    ),
    _Rule(
        pattern=re.compile(rf"Read-only file system(?:{_PATH_AFTER})?"),
        tell=_read_only,
    ),
    _Rule(
        pattern=re.compile(
            rf"PermissionError: \[Errno 13\] Permission denied(?:{_PATH_AFTER})?"
            r"|\[Errno 13\] Permission denied|: Permission denied$"
            r"|Could not open lock file /var/lib/(?:dpkg|apt)|are you root\?",
            re.MULTILINE,
        ),
        tell=_denied,
    ),
    # -- of what is missing
    _Rule(
        pattern=re.compile(
            r"ModuleNotFoundError: No module named '(?P<module>[^']+)'"
            r"|^[^\n]*python[0-9.]*: No module named (?P<main>\S+)$",
            re.MULTILINE,
        ),
        tell=_no_module,
    ),
    _Rule(
        pattern=re.compile(r"line \d+: (?P<command>\S+): command not found"),
        tell=_no_command,
        codes=(_NOT_THERE,),
    ),
    # -- of memory that is shared, and signals
    _Rule(
        pattern=re.compile(r"[Bb]us error|insufficient shared memory"),
        tell=_always(
            "shared memory ran out",
            "data loaders that are processes of their own hand batches over in /dev/shm, which"
            " has 2 GiB",
            "use fewer or smaller workers, or threads (tf.data) in their place",
        ),
    ),
    # -- a GPU that nobody found is no fault of a trainer that failed of something else
    _Rule(
        pattern=re.compile(
            r"Could not find cuda drivers on your machine"
            r"|Cannot dlopen some GPU libraries"
            r"|failed call to cuInit|CUDA_ERROR_NO_DEVICE|no CUDA-capable device is detected"
        ),
        needs_gpu=True,
        tell=_always(
            "TensorFlow found no GPU, although the machine has one",
            "the image's CUDA libraries do not fit its TensorFlow, or it is a build without CUDA",
            "take an image that finds a GPU, such as tensorflow/tensorflow:2.17.0-gpu, or install"
            " tensorflow[and-cuda] in setup",
        ),
    ),
    _Rule(
        pattern=re.compile(""),
        codes=(_SEGFAULT,),
        tell=_always(
            "the trainer crashed with SIGSEGV: a library used memory that is not its own",
            "most often compiled parts that do not fit each other",
            "look at the last lines of its log; pin the versions of what setup installs, and try"
            " without custom operations",
        ),
    ),
    _Rule(
        pattern=re.compile(""),
        codes=(_ABORTED,),
        tell=_always(
            "the trainer aborted itself (SIGABRT)",
            "a compiled library met something that it does not go on with",
            "its last lines say what; spotrunner logs has them all",
        ),
    ),
    _Rule(
        pattern=re.compile(""),
        codes=(_KILLED,),
        tell=_always(
            "the trainer was killed (SIGKILL), and not by spotrunner",
            "something in the job itself did it: the kernel would have told of a want of memory",
            "look for who sends signals in run",
        ),
    ),
)
