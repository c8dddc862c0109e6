"""Whether the receiver of spans or metrics takes them: one line when that changes, not one for each failure."""

import structlog

_log = structlog.get_logger("bitlane.telemetry")


class ExportHealth:
    """Belongs to one exporting thread."""

    def __init__(self, signal: str) -> None:
        self.succeeded = 0
        self.failed = 0
        self._signal = signal
        self._away = False

    def report(self, problem: Exception | str | None) -> None:
        """Takes the result of one export; None: it went well."""
        if problem is None:
            self.succeeded += 1
            if self._away:
                _log.info("telemetry.back", signal=self._signal)
            self._away = False
            return
        self.failed += 1
        if not self._away:
            error = problem if isinstance(problem, str) else type(problem).__name__
            _log.warning(
                "telemetry.away", signal=self._signal, error=error, hint="spans and figures are lost meanwhile"
            )
        self._away = True
