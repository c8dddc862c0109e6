"""A fake NVML: one H100, or what FAKE_GPU and FAKE_SM say."""
# ruff: noqa: N802

import os
from types import SimpleNamespace


class NVMLError(Exception):
    pass


def nvmlInit() -> None: ...


def nvmlShutdown() -> None: ...


def nvmlDeviceGetCount() -> int:
    return 1


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetHandleByUUID(name: str) -> int:
    del name
    return 0


def nvmlDeviceIsMigDeviceHandle(handle: int) -> bool:
    del handle
    return False


def nvmlDeviceGetName(handle: int) -> str:
    del handle
    return os.environ.get("FAKE_GPU", "NVIDIA H100 80GB HBM3")


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    del handle
    major, _, minor = os.environ.get("FAKE_SM", "9.0").partition(".")
    return int(major), int(minor)


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    del handle
    return SimpleNamespace(total=80 << 30)
