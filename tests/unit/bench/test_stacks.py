"""Sampled stacks: added up, told by package and function, drawn."""

import xml.etree.ElementTree as ET

import pytest

from bench.profile.stacks import by_function, by_package, event_loop, flame_graph, package_of, read

_LOOP = "<module> (/usr/lib/python3.11/runpy.py:3);Runner.run (/usr/lib/python3.11/asyncio/runners.py:118)"
FOLDED = (
    f"{_LOOP};handle (router/rpc.py:10);classify (classifier/model.py:5) 30",
    f"{_LOOP};handle (router/rpc.py:12) 50",
    f"{_LOOP} 20",
    "Thread.run (/usr/lib/python3.11/threading.py:9) 900",
)


def test_only_the_event_loop_counts_and_lines_of_one_function_are_one() -> None:
    loop = event_loop(read(FOLDED))
    assert loop.samples == 100
    assert by_package(loop) == {"router": 50, "classifier": 30, "the event loop": 20}
    assert by_function(loop, 1) == [("handle (router/rpc.py)", 80, 50)]


def test_stacks_without_a_loop_are_refused() -> None:
    with pytest.raises(LookupError, match="no event loop"):
        event_loop(read(FOLDED[-1:]))


def test_a_function_that_calls_itself_counts_once() -> None:
    (only,) = by_function(read(["f (router/a.py:1);f (router/a.py:2) 7"]), 1)
    assert only == ("f (router/a.py)", 7, 7)


def test_packages_are_named_by_the_first_folder() -> None:
    assert package_of("f (grpc/aio/_call.py)") == "grpc"
    assert package_of("f (threading.py)") == "threading"
    assert package_of("all") == "all"


def test_a_flame_graph_leaves_out_what_is_hardly_there() -> None:
    root = ET.fromstring(flame_graph(event_loop(read(FOLDED)), "t", least=0.4))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["the event loop: 100.0 %", "handle (router/rpc.py): 80.0 %"]
