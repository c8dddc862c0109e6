"""Loads the Lua transitions.

A script is sent as: the key layout, the constants below, the libraries it names, its own text. A file names what it
needs in one line, `-- use: clock record`, each word a file in `lua/lib/`; libraries may use others in the same way.
This is the only way in which Lua code is shared.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker import keys
from broker.options import BrokerOptions

_LUA = Path(__file__).parent / "lua"
_USE = "-- use:"


@dataclass(frozen=True, slots=True)
class Script:
    """One transition, as the server stores it."""

    name: str
    text: bytes
    sha: bytes


def load_scripts(options: BrokerOptions, libraries: Mapping[str, str] | None = None) -> dict[str, Script]:
    """All transitions by name. `libraries` replaces library files by their name, such as `clock`."""
    known = {path.stem: path.read_text() for path in sorted((_LUA / "lib").glob("*.lua"))} | dict(libraries or {})
    head = keys.lua_layout() + _constants(options)
    return {path.stem: _script(path, head, known) for path in sorted(_LUA.glob("*.lua"))}


def _constants(options: BrokerOptions) -> str:
    """Options are part of the text: a call then carries only what differs between calls."""
    values = {
        "LEASE_MS": options.lease_ms,
        "RESUME_MS": options.resume_window_ms,
        "MAX_ATTEMPTS": options.max_attempts,
        "DEAD_MS": options.dead_retention_ms,
        "DEAD_MAX": options.dead_letters_max,
        "INBOX_MAX": options.inbox_max,
        "BATCH_TURN": options.batch_turn,
        "USAGE_MINUTE_MS": options.usage_minute_ms,
        "USAGE_HOUR_MS": options.usage_hour_ms,
        "USAGE_DAY_MS": options.usage_day_ms,
    }
    return "".join(f"local {name} = {value}\n" for name, value in values.items())


def _script(path: Path, head: str, libraries: Mapping[str, str]) -> Script:
    body = path.read_text()
    order: list[str] = []
    _require(path.stem, body, libraries, order)
    text = "".join([head, *(libraries[name] for name in order), body]).encode()
    return Script(path.stem, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _require(user: str, text: str, libraries: Mapping[str, str], order: list[str]) -> None:
    """Appends to `order` the libraries that `text` names, those they need before them, each once."""
    for line in text.splitlines():
        for name in line.removeprefix(_USE).split() if line.startswith(_USE) else ():
            if name not in libraries:
                raise LookupError(f"{user}.lua uses the library {name!r}, and lua/lib/{name}.lua does not exist")
            if name not in order:
                _require(name, libraries[name], libraries, order)
                order.append(name)
