"""From ended spans to the exporter: a bounded queue and one thread. Nobody who ends a span ever waits.

The batch processor of OpenTelemetry's SDK does not say how many spans it dropped, and its shutdown may take 30 s; this
one counts, and ends in the time it is given.
"""

import threading
import time
from collections import deque

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from telemetry.health import ExportHealth


class SpanQueue(SpanProcessor):
    """Exports in batches what the sampler kept. A full queue drops the new span, and counts it."""

    def __init__(self, exporter: SpanExporter, *, most: int, batch: int, delay_s: float) -> None:
        self.exported = 0
        self.dropped = 0  # the queue was full, or closed
        self.failed = 0  # the receiver did not take them
        self.health = ExportHealth("traces")
        self._exporter = exporter
        self._most, self._batch, self._delay_s = most, batch, delay_s
        self._queue: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="telemetry-spans", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return len(self._queue)

    def on_end(self, span: ReadableSpan) -> None:
        if not span.context or not span.context.trace_flags.sampled:
            return
        if self._closed or len(self._queue) >= self._most:
            self.dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) >= self._batch:
            self._wake.set()

    def close(self, deadline: float) -> None:
        """Exports what is queued, and gives up at `deadline` (by `time.monotonic`)."""
        self._closed = True
        self._wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        # Ends an export that is under way: the receiver had its time.
        self._exporter.shutdown()
        self.dropped += len(self._queue)
        self._queue.clear()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._delay_s)
            self._wake.clear()
            while self._queue:
                self._export()
        while self._queue:
            self._export()

    def _export(self) -> None:
        spans: list[ReadableSpan] = []
        while self._queue and len(spans) < self._batch:
            spans.append(self._queue.popleft())
        try:
            done = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # whatever it is, the next batch may do better
            self.health.report(error)
            done = False
        else:
            self.health.report(None if done else "not taken")
        if done:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
