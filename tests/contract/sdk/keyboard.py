"""A terminal with a program in it."""

import os
import pty
import select
import time


class Keyboard:
    """Types what a person would, and reads what one would see."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._shown = ""
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, {**os.environ, "TERM": "xterm", **environment})

    def see(self, text: str, keys: str = "") -> str:
        """Waits until a text was shown, and returns all until then. Types `keys` again after each second of silence."""
        end = time.monotonic() + 20
        self.type(keys)
        while text not in self._shown:
            ready, _, _ = select.select([self._end], [], [], 1 if keys else max(0, end - time.monotonic()))
            assert time.monotonic() < end, f"{text!r} did not come, but {self._shown!r}"
            if not ready:
                self.type(keys)
                continue
            try:
                self._shown += os.read(self._end, 4096).decode()
            except OSError:
                raise AssertionError(f"ended without {text!r}: {self._shown!r}") from None
        seen, _, self._shown = self._shown.partition(text)
        return seen + text

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def exit_code(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._end)
        return code
