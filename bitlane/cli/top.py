"""`bitlane top`: everything at one moment, again each second until q; or once."""

import os
import queue
import select
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from bitlane import defaults
from bitlane.cli.frame import Frame, Watch
from bitlane.cli.report import as_json, lines
from bitlane.cli.terminal import Terminal
from bitlane.errors import AccessError, BitlaneError, ConfigError
from bitlane.sync import Client

_EVERY_S = 1.0
_News: TypeAlias = "queue.SimpleQueue[tuple[Frame | None, str] | BitlaneError]"


def top(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    """Shows frames. True."""
    watch = Watch(client)
    if hasattr(arguments, "json"):
        terminal.line(as_json(watch.read()))
        return True
    try:
        # Few need rich, and the SDK promises not to.
        from bitlane.cli.top_view import Screen, picture, show_once  # noqa: PLC0415
    except ImportError:
        raise ConfigError("`bitlane top` draws with rich: pip install 'bitlane[top]'; or take --json") from None
    target = getattr(arguments, "target", None) or os.environ.get(defaults.ENV_TARGET) or defaults.TARGET
    if hasattr(arguments, "svg"):
        _write(arguments.svg, picture(watch.read(), target))
    elif arguments.once or not terminal.interactive:
        show_once(watch.read(), target)
    else:
        first = watch.read()  # a wrong key is told before the screen is taken
        with Screen(target) as screen, _keys():
            screen.show(first, "")
            _run(watch, screen.show, target)
    return True


def _run(watch: Watch, show: Callable[[Frame | None, str], None], target: str) -> None:
    """Until q. The reading is in a thread of its own, so that a server which hangs does not keep anybody here."""
    news: _News = queue.SimpleQueue()
    done = threading.Event()
    threading.Thread(target=_read, args=(watch, news, done, target), name="bitlane-top", daemon=True).start()
    try:
        while not _pressed(0.1):
            while not news.empty():
                item = news.get()
                if isinstance(item, BitlaneError):
                    raise item
                show(*item)
    finally:
        done.set()


def _read(watch: Watch, news: _News, done: threading.Event, target: str) -> None:
    while not done.wait(_EVERY_S):
        try:
            news.put((watch.read(), ""))
        except AccessError as error:  # waiting cures no key
            news.put(error)
            return
        except BitlaneError as error:
            news.put((None, lines(error, target)[0]))
        except RuntimeError:  # the client was closed
            return


@contextmanager
def _keys() -> Generator[None]:
    """Lets single keys be read, where the terminal can do that."""
    try:
        import termios  # noqa: PLC0415  # not everywhere
        import tty  # noqa: PLC0415
    except ImportError:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(wait_s: float) -> bool:
    """Whether q came, within some seconds."""
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(ready) and os.read(sys.stdin.fileno(), 64).lower() in (b"q", b"")


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
