"""Which device, number format and threads a process computes with.

Read from what the machine says about itself and from the plan; nothing about models.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import torch

from finetune_trainer.outcome import RetryableError
from finetune_trainer.run import Precision

# Of cgroup 2 and 1, as a container sees its own.
CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")

# Without one of these, bfloat16 is emulated on a CPU and many times slower than float32.
NATIVE_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def choose_device(
    local_rank: int, processes: int = 1, *, asked: int, devices: Path = Path("/dev")
) -> torch.device:
    """The accelerator of this one of the pod's `processes`; the CPU where none can be seen and none
    is `asked` for.

    FINETUNE_ALLOW_CPU=true takes the CPU also where accelerators were asked for and there are none.

    Raises:
        RetryableError: this process was to have an accelerator and has none that it can use.
    """
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if count < processes:
            raise RetryableError(
                f"The pod has {count} accelerator(s) for {processes} processes: check the device "
                "plugin of its node."
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        return device
    # Empty, it hides them: a process beside others that have them.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if not hidden and any(devices.glob("nvidia[0-9]*")):
        raise RetryableError(
            "The pod has accelerators that CUDA cannot use: check that the driver of its node is "
            f"new enough for CUDA {torch.version.cuda}, and its device plugin."
        )
    if asked and os.environ.get("FINETUNE_ALLOW_CPU") != "true":
        raise RetryableError(
            f"spec.resources.gpusPerNode is {asked}, but this pod sees no accelerator: check "
            "spec.scheduling.runtimeClassName and the device plugin of its node."
        )
    return torch.device("cpu")


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The format of matrix products: `Auto` is bfloat16 where the hardware has it, else float32."""
    if precision is Precision.AUTO:
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision is Precision.BFLOAT16 else torch.float32


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(NATIVE_BFLOAT16_FLAGS & cpu_flags())


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The first CPU's feature flags (`flags` on x86, `Features` on Arm); empty where unknown."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def size_threads(local_world_size: int) -> None:
    """Give this process its share of the CPUs granted to the pod.

    torch counts the host's CPUs, not the container's limit: too many threads are throttled.
    """
    granted = os.environ.get("FINETUNE_CPUS")
    if granted:
        torch.set_num_threads(max(1, int(granted) // local_world_size))


def available_memory_bytes(
    device: torch.device, local_world_size: int, root: Path = Path("/")
) -> int:
    """What a process may fill: its accelerator, or its share of the container's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    limits = [
        int(text)
        for name in CGROUP_LIMITS
        if (root / name).exists() and (text := (root / name).read_text().strip()).isdecimal()
    ]
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([host, *limits]) // local_world_size


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process held: on the accelerator if there is one, else in RAM."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
