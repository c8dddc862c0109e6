"""When a GPU becomes idle: small kernels are timed all the while; beside another process's work they take longer.

Utilization that a driver reports is an average over a sixth of a second and more: too coarse for a bound of 100 ms.
"""

import importlib
import importlib.util
import statistics
import threading
import time
from typing import Any


class GpuProbe:
    """`with GpuProbe() as probe:` samples in a thread; without torch and a GPU `works` is False."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []  # time.perf_counter() at the end, seconds it took
        self.works = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "GpuProbe":
        if importlib.util.find_spec("torch") is not None:
            torch: Any = importlib.import_module("torch")
            self.works = bool(torch.cuda.is_available())
        if self.works:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.works:
            self._thread.join()

    def _run(self) -> None:
        torch: Any = importlib.import_module("torch")
        square = torch.randn(1024, 1024, device="cuda", dtype=torch.bfloat16)
        out = torch.empty_like(square)
        while not self._stop.is_set():
            began = time.perf_counter()
            for _ in range(4):
                torch.matmul(square, square, out=out)
            torch.cuda.synchronize()
            ended = time.perf_counter()
            self.samples.append((ended, ended - began))
            time.sleep(0.001)

    def idle_after(self, busy: tuple[float, float], cancelled: float, until: float) -> float | None:
        """Seconds from `cancelled` to the last kernel that was slow as in the time span `busy`; None if unclear.

        Slow is what lies above the middle between the medians of the busy span and of the last second before `until`.
        """
        slow = [took for at, took in self.samples if busy[0] <= at <= busy[1]]
        quick = [took for at, took in self.samples if until - 1.0 <= at <= until]
        if len(slow) < 10 or len(quick) < 10:
            return None
        usual, idle = statistics.median(slow), statistics.median(quick)
        if usual < 1.3 * idle:
            return None
        threshold = (usual + idle) / 2
        # Single slow kernels happen on an idle GPU as well: three in a row do not.
        late = 0.0
        window = [(at, took > threshold) for at, took in self.samples if cancelled <= at <= until]
        for first, second, third in zip(window, window[1:], window[2:], strict=False):
            if first[1] and second[1] and third[1]:
                late = third[0] - cancelled
        return late
