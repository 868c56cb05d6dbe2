"""Ends of trainers by what they printed: lines of real logs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.diagnosis import diagnose

DRIVER = "550.127.05"

# -- lines as they stood in public logs (tensorflow, keras, nvidia-docker, moby), and of this Python
NO_DRIVER = (
    "2024-06-28 00:03:52.493638: I tensorflow/tsl/cuda/cudart_stub.cc:28] Could not find cuda"
    " drivers on your machine, GPU will not be used."
)
DLOPEN = (
    "W0000 00:00:1736383795.205652  747392 gpu_device.cc:2344] Cannot dlopen some GPU libraries."
    " Please make sure the missing libraries mentioned above are installed properly if you would"
    " like to use GPU. Follow the guide at https://www.tensorflow.org/install/gpu for how to"
    " download and setup the required libraries for your platform.\nSkipping registering GPU"
    " devices..."
)
CU_INIT = (
    "2024-02-03 18:53:33.000000: E tensorflow/compiler/xla/stream_executor/cuda/cuda_driver.cc:268]"
    " failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"
)
CUDNN = (
    "E0000 00:00:1738697930.202924    7665 cuda_dnn.cc:522] Loaded runtime CuDNN library: 9.1.0 but"
    " source was compiled with: 9.3.0.  CuDNN library needs to have matching major version and"
    " equal or higher minor version."
)
CUDNN_FAILS = (
    "2025-02-04 20:38:50.230519: W tensorflow/core/framework/op_kernel.cc:1841] OP_REQUIRES failed"
    " at xla_ops.cc:577 : FAILED_PRECONDITION: DNN library initialization failed. Look at the"
    " errors above for more details."
)
OOM = (
    "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor"
    " with shape[128,128,109,109] and type float on /job:localhost/replica:0/task:0/device:GPU:0"
    " by allocator GPU_0_bfc"
)
OOM_XLA = (
    "tensorflow.python.framework.errors_impl.ResourceExhaustedError: Graph execution error:\n\n"
    "Out of memory while trying to allocate 4294967296 bytes."
)
OOM_CUDA = (
    "I0000 00:00:1 cuda_executor.cc:1] failed to allocate 14.5GiB (15568076800 bytes) from device:"
    " CUDA_ERROR_OUT_OF_MEMORY: out of memory"
)
OLD_DRIVER = (
    "tensorflow.python.framework.errors_impl.InternalError: cudaGetDevice() failed. Status: CUDA"
    " driver version is insufficient for CUDA runtime version"
)
CONTAINER_CLI = (
    "docker: Error response from daemon: failed to create task for container: failed to create shim"
    " task: OCI runtime create failed: runc create failed: unable to start container process: error"
    " during container init: error running prestart hook #0: exit status 1, stdout: , stderr:"
    " Auto-detected mode as 'legacy'\nnvidia-container-cli: requirement error: unsatisfied"
    " condition: cuda>=12.8, please update your driver to a newer version, or use an earlier cuda"
    " container: unknown"
)
NO_KERNEL = (
    "2020-08-01 03:45:09.105836: F ./tensorflow/core/kernels/conv_2d_gpu.h:710] Non-OK-status:"
    " GpuLaunchKernel(SwapDimension1And2InTensor3UsingTiles) status: Internal: no kernel image is"
    " available for execution on the device"
)
NO_TOOLKIT = (
    'docker: Error response from daemon: could not select device driver "" with capabilities:'
    " [[gpu]]."
)
PERMISSION = "PermissionError: [Errno 13] Permission denied: '/usr/local/lib/python3.11/x'"
APT = (
    "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\n"
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?"
)
BUS = (
    "RuntimeError: DataLoader worker (pid 123) is killed by signal: Bus error. It is possible that"
    " dataloader's workers are out of shared memory. Please try to raise your shared memory limit."
)


@pytest.mark.parametrize(
    ("code", "text", "what"),
    [
        (1, OOM, "the GPU ran out of memory"),
        (1, OOM_XLA, "the GPU ran out of memory"),
        (1, OOM_CUDA, "the GPU ran out of memory"),
        (1, OLD_DRIVER, f"the GPU's driver {DRIVER} is too old for the image's CUDA"),
        (125, CONTAINER_CLI, f"the GPU's driver {DRIVER} is too old for the image's CUDA"),
        (134, NO_KERNEL, "the image's CUDA code has nothing for this kind of GPU"),
        (1, f"{CUDNN}\n{CUDNN_FAILS}", "the image has cuDNN 9.1.0, and its TensorFlow was built"),
        (1, NO_DRIVER, "TensorFlow found no GPU, although the machine has one"),
        (1, DLOPEN, "TensorFlow found no GPU, although the machine has one"),
        (1, CU_INIT, "TensorFlow found no GPU, although the machine has one"),
        (125, NO_TOOLKIT, "docker cannot give GPUs to a container"),
        (127, 'exec: "bash": executable file not found in $PATH', "the image has no bash"),
        (
            127,
            "[FATAL tini (7)] exec bash failed: No such file or directory",
            "the image has no bash",
        ),
        (1, "OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            1,
            "OSError: [Errno 30] Read-only file system: 'model.keras'",
            "model.keras cannot be written: a read-only file system",
        ),
        (
            1,
            "touch: cannot touch 'x': Read-only file system",
            "it wrote where nothing can be written: a read-only file system",
        ),
        (1, PERMISSION, "permission was denied for /usr/local/lib/python3.11/x"),
        (100, APT, "permission was denied by the system"),
        (1, "mkdir: cannot create directory '/opt/x': Permission denied", "permission was denied"),
        (
            1,
            "Traceback (most recent call last):\nModuleNotFoundError: No module named"
            " 'transformers.models'",
            "the Python module transformers.models is not there",
        ),
        (
            1,
            "/usr/bin/python3: No module named wandb",
            "the Python module wandb is not there",
        ),
        (127, "bash: line 3: pyhton: command not found", "the command pyhton is not there"),
        (1, BUS, "shared memory ran out"),
        (135, "bash: line 2:    12 Bus error               python train.py", "shared memory ran"),
        (139, "anything", "the trainer crashed with SIGSEGV"),
        (134, "terminate called", "the trainer aborted itself (SIGABRT)"),
        (137, "anything", "the trainer was killed (SIGKILL)"),
    ],
)
def test_an_end_that_is_known(code: int, text: str, what: str) -> None:
    told = diagnose(
        code, oom_killed=False, log_tail=["Epoch 1/10", *text.splitlines()], driver=DRIVER
    )
    assert told is not None
    assert told.what.startswith(what)
    assert told.why
    assert told.change


def test_a_lack_of_memory_that_the_kernel_tells_of_is_certain() -> None:
    told = diagnose(137, oom_killed=True, log_tail=["Epoch 1/10"])
    assert told is not None
    assert told.what == "the machine ran out of memory, and its kernel ended the trainer"


def test_a_worker_that_the_kernel_ended_explains_what_nothing_else_does() -> None:
    told = diagnose(1, oom_killed=True, log_tail=["a worker exited unexpectedly"])
    assert told is not None
    assert told.what == "the machine ran out of memory, and its kernel ended a part of the trainer"
    other = diagnose(1, oom_killed=True, log_tail=["ModuleNotFoundError: No module named 'wandb'"])
    assert other is not None
    assert "memory" not in other.what, "what it says itself is nearer"


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    lines = ["ModuleNotFoundError: No module named 'transformers.models'"]
    told = diagnose(1, oom_killed=False, log_tail=lines)
    assert told is not None
    assert "pip install transformers)" in told.change


@pytest.mark.parametrize("code", [0, 75, 143])
def test_an_end_that_was_meant_needs_none(code: int) -> None:
    assert diagnose(code, oom_killed=False, log_tail=[OOM, NO_DRIVER], driver=DRIVER) is None


def test_a_machine_without_a_gpu_misses_none() -> None:
    assert diagnose(1, oom_killed=False, log_tail=[NO_DRIVER]) is None


def test_what_ended_it_counts_and_not_what_tensorflow_always_says() -> None:
    lines = [NO_DRIVER, "OSError: [Errno 28] No space left on device"]
    told = diagnose(1, oom_killed=False, log_tail=lines, driver=DRIVER)
    assert told is not None
    assert told.what == "the disk is full"


def test_a_command_that_is_missing_and_ends_nothing_is_no_reason() -> None:
    lines = ["bash: line 1: nvidia-smi: command not found", "ValueError: shapes do not match"]
    assert diagnose(1, oom_killed=False, log_tail=lines) is None


@given(code=st.integers(0, 255), lines=st.lists(st.text(max_size=80), max_size=8))
def test_no_text_is_too_strange(code: int, lines: list[str]) -> None:
    told = diagnose(code, oom_killed=False, log_tail=lines)
    assert told is None or (told.what and told.why and told.change)
