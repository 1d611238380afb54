"""What the training computes on: its device, its memory, and the compiler that torch.compile needs."""

import ctypes
import os
import re
import shutil
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import torch


# Of glibc's malloc.h; a mapping of its own is at most 32 MiB there.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_MAPPED, _KEPT = 32 * 2**20, 256 * 2**20


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, where the C library is glibc.

    A step of training frees what it has allocated, megabyte by megabyte; given back to the system, each
    page is zeroed anew in the next step, which takes up to a fifth of its time.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(_MMAP_THRESHOLD, _MOST_MAPPED)
    set_option(_TRIM_THRESHOLD, _KEPT)


def require_compiler() -> None:
    """Checks that torch.compile, which calls a compiler at run time, has one.

    Raises:
        SlipwayError: there is none, as in the stage's own image.
    """
    named = [os.environ[name] for name in ("CC", "CXX") if os.environ.get(name)]
    if not any(shutil.which(name) for name in (*named, "g++", "gcc", "clang++", "clang")):
        raise SlipwayError(
            "training.compile is true, and torch.compile needs a C++ compiler at run time: here is none,"
            " and the stage's own image has none. Set training.compile to false, or train in an image"
            " of yours with g++ and the headers of Python and torch."
        )


def count_devices(gpus: str | int) -> int:
    """The number of devices that a text says; a pipeline's parameters know no whole numbers.

    Raises:
        SlipwayError: it is no whole number.
    """
    if isinstance(gpus, str) and not re.fullmatch(r"\d+", gpus):
        raise SlipwayError(f"gpus is {gpus!r}: give a whole number of devices, as 0 or 2.")
    return int(gpus)


def choose_device(gpus: int, allow_cpu: bool) -> "torch.device":
    """The device to train on.

    Raises:
        SlipwayError: GPUs were asked for, none is there, and the CPU is not allowed.
    """
    import torch

    if gpus == 0:
        return torch.device("cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found >= gpus:
        return torch.device("cuda", 0)
    if not allow_cpu:
        check = (
            "Check the accelerator type, the node selector and the driver of the node"
            if torch.version.cuda
            else f"torch {torch.__version__} is the CPU build, which sees none: build the image with"
            " TORCH_BUILD=cuda"
        )
        raise SlipwayError(
            f"The task was to train on {gpus} GPU(s), and {found} can be seen. {check}, set"
            " training.accelerator.count to 0, or set training.allow_cpu to train on the CPU."
        )
    progress(f"{gpus} GPU(s) asked for, {found} found: training on the CPU, as allow_cpu permits")
    return torch.device("cpu")
