"""The GPU of this worker, asked of the driver through NVML. No CUDA context is made: engines make their own."""

import os
from collections.abc import Sequence
from typing import Any

from precision.gpus import Gpu


class GpuUnknown(Exception):
    """The worker's GPU cannot be found out; the message says why and what to do."""


def probe() -> Gpu:
    """The first GPU that this process may use, or the MIG slice of one (CUDA_VISIBLE_DEVICES chooses).

    All GPUs of a worker with tensor parallelism have to be of one kind.

    Raises:
        GpuUnknown: there is no driver, no GPU, or GPUs of several kinds.
    """
    try:
        import pynvml  # noqa: PLC0415
    except ImportError:
        raise GpuUnknown("nvidia-ml-py is not installed: pip install nvidia-ml-py") from None
    return probe_with(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))


def probe_with(nvml: Any, visible: str | None) -> Gpu:
    """`probe` with a given NVML module and value of CUDA_VISIBLE_DEVICES (None: not set)."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise GpuUnknown(f"no NVIDIA driver answers ({error}); GPU engines need one") from error
    try:
        found = [_describe(nvml, handle) for handle in _handles(nvml, visible)]
    except nvml.NVMLError as error:
        raise GpuUnknown(f"NVML failed: {error}") from error
    finally:
        nvml.nvmlShutdown()
    if not found:
        raise GpuUnknown(f"CUDA_VISIBLE_DEVICES={visible!r} leaves no GPU; name one by its index or UUID")
    kinds = {(gpu.name, gpu.sm, gpu.mig) for gpu in found}
    if len(kinds) > 1:
        names = ", ".join(sorted(gpu.label for gpu in found))
        raise GpuUnknown(f"this worker sees GPUs of several kinds ({names}); a pool has one: set CUDA_VISIBLE_DEVICES")
    return found[0]


def _handles(nvml: Any, visible: str | None) -> Sequence[Any]:
    """Handles of the visible devices: all, or those named by index, by GPU-... or by MIG-... UUID."""
    if visible is None:
        return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
        for name in names
    ]


def _describe(nvml: Any, handle: Any) -> Gpu:
    whole, mig = handle, ""
    try:
        if nvml.nvmlDeviceIsMigDeviceHandle(handle):
            whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            # A slice's name ends in its profile: "NVIDIA B200 MIG 1g.23gb".
            mig = _text(nvml.nvmlDeviceGetName(handle)).rpartition("MIG ")[2]
    except nvml.NVMLError:
        mig = ""  # a driver without MIG
    sm = nvml.nvmlDeviceGetCudaComputeCapability(whole)
    name = _text(nvml.nvmlDeviceGetName(whole)).removeprefix("NVIDIA ")
    return Gpu(name, (int(sm[0]), int(sm[1])), int(nvml.nvmlDeviceGetMemoryInfo(handle).total), mig)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
