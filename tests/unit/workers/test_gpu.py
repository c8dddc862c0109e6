"""Asking NVML: whole GPUs, MIG slices, and what is wrong with a host."""

from types import SimpleNamespace
from typing import Any

import pytest

from precision.gpus import Gpu
from workers.gpu import GpuUnknown, probe_with


class Nvml:
    """GPUs by handle: name, compute capability, bytes; and MIG slices by UUID: (handle of the whole, name, bytes)."""

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: list[tuple[str, tuple[int, int], int]], slices: dict[str, tuple[int, str, int]]) -> None:
        self._gpus = gpus
        self._slices = slices

    def nvmlInit(self) -> None:  # noqa: N802
        if not self._gpus:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= len(self._gpus):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> Any:  # noqa: N802
        if name not in self._slices:
            raise self.NVMLError("Not Found")
        return name

    def nvmlDeviceIsMigDeviceHandle(self, handle: Any) -> bool:  # noqa: N802
        return isinstance(handle, str)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> int:  # noqa: N802
        return self._slices[handle][0]

    def nvmlDeviceGetName(self, handle: int | str) -> bytes:  # noqa: N802
        name = self._slices[handle][1] if isinstance(handle, str) else self._gpus[handle][0]
        return name.encode()

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return self._gpus[handle][1]

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=self._slices[handle][2] if isinstance(handle, str) else self._gpus[handle][2])


B200 = ("NVIDIA B200", (10, 0), 192 << 30)
H100 = ("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30)
SLICE = {"MIG-1": (0, "NVIDIA B200 MIG 1g.23gb", 23 << 30)}


def test_a_whole_gpu() -> None:
    assert probe_with(Nvml([B200], {}), None) == Gpu("B200", (10, 0), 192 << 30)
    assert probe_with(Nvml([H100, H100], {}), None).capability == "9.0"


def test_the_visible_one_of_several() -> None:
    assert probe_with(Nvml([H100, B200], {}), "1").name == "B200"


def test_a_mig_slice_has_the_capability_of_its_gpu_and_memory_of_its_own() -> None:
    found = probe_with(Nvml([B200], SLICE), "MIG-1")
    assert found == Gpu("B200", (10, 0), 23 << 30, "1g.23gb")
    assert found.label == "B200 MIG 1g.23gb"


@pytest.mark.parametrize(
    ("nvml", "visible", "says"),
    [
        (Nvml([], {}), None, "no NVIDIA driver answers"),
        (Nvml([B200], {}), "", "leaves no GPU"),
        (Nvml([B200], {}), "7", "NVML failed"),
        (Nvml([B200], {}), "GPU-unknown", "NVML failed"),
        (Nvml([H100, B200], {}), None, r"several kinds \(B200, H100 80GB HBM3\).*set CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_cannot_be_said_is_not_guessed(nvml: Nvml, visible: str | None, says: str) -> None:
    with pytest.raises(GpuUnknown, match=says):
        probe_with(nvml, visible)
