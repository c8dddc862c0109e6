"""Loads the Lua transitions.

A script is sent as: the key layout, the constants below, the libraries it names, its own text. A file names what it
needs in one line, `-- use: clock record`, each word a file in `lua/lib/`; libraries may use others in the same way.
This is the only way in which Lua code is shared.

Each run of a script makes all its functions anew, which for the largest libraries takes as long as a small transition
does. `-- rarely: conclude` is for a library that offers one function, of its own name, to those who seldom call it: it
is made, with all that only it needs, when it is called.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker import keys
from broker.options import BrokerOptions

_LUA = Path(__file__).parent / "lua"
_USE, _RARELY = "-- use:", "-- rarely:"


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
    needed: dict[str, str] = {}
    _require(path.stem, body, libraries, needed)
    text = "".join([head, *needed.values(), body]).encode()
    return Script(path.stem, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _require(user: str, text: str, libraries: Mapping[str, str], needed: dict[str, str]) -> None:
    """Adds to `needed`, by name, the text of what `text` names, after what that needs itself, each once."""
    for name in _named(user, text, _USE, libraries):
        if name not in needed:
            _require(name, libraries[name], libraries, needed)
            needed[name] = libraries[name]
    for name in _named(user, text, _RARELY, libraries):
        if name not in needed:
            inner = dict(needed)
            _require(name, libraries[name], libraries, inner)
            parts = [inner[part] for part in inner if part not in needed]
            needed[name] = "".join(
                [f"local function {name}(...)\n", *parts, libraries[name], f"return {name}(...)\nend\n"]
            )


def _named(user: str, text: str, how: str, libraries: Mapping[str, str]) -> list[str]:
    names = [name for line in text.splitlines() if line.startswith(how) for name in line.removeprefix(how).split()]
    for name in names:
        if name not in libraries:
            raise LookupError(f"{user}.lua uses the library {name!r}, and lua/lib/{name}.lua does not exist")
    return names
