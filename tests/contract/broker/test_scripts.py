"""The Lua files keep their form, and the loader says what is missing."""

from pathlib import Path

import pytest

import broker
from broker import BrokerOptions
from broker.scripts import load_scripts

LUA = Path(broker.__file__).parent / "lua"
TRANSITIONS = sorted(LUA.glob("*.lua"))


@pytest.mark.parametrize("path", TRANSITIONS, ids=lambda path: path.stem)
def test_each_transition_says_what_it_takes_gives_and_keeps(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("--"))]
    for part in ("-- KEYS 1", "-- ARGV 1", "-- Result ", "-- Keeps: "):
        assert any(line.startswith(part) for line in header), f"{path.name} does not say {part!r}"


def test_every_library_is_used() -> None:
    used = {
        name
        for path in LUA.rglob("*.lua")
        for line in path.read_text().splitlines()
        if line.startswith(("-- use:", "-- rarely:"))
        for name in line.split()[2:]
    }
    assert used == {path.stem for path in (LUA / "lib").glob("*.lua")}


def test_a_library_that_does_not_exist_is_named() -> None:
    with pytest.raises(LookupError, match="uses the library 'nowhere'"):
        load_scripts(BrokerOptions(), {"clock": "-- use: nowhere\n"})


def test_scripts_differ_with_the_options_and_only_then() -> None:
    usual, same = load_scripts(BrokerOptions()), load_scripts(BrokerOptions())
    other = load_scripts(BrokerOptions(lease_ms=1))
    assert usual == same
    assert usual["append"].sha != other["append"].sha


def test_options_that_make_no_sense_name_themselves() -> None:
    with pytest.raises(ValueError, match="lease_ms"):
        BrokerOptions(lease_ms=0)
    with pytest.raises(ValueError, match="batch_turn"):
        BrokerOptions(batch_turn=1)
