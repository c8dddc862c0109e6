"""Sampled stacks: read, added up into a tree, and told as a table or drawn as a flame graph."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

_WIDTH, _LINE, _TOP, _MARGIN = 1200, 17, 40, 10
_LETTER = 6.6  # width of one, in a monospaced font of 11
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(:\d+)?\)$")
# The project's own packages, each in a colour; everything else is others' code.
_COLOURS = {
    "router": "#8fb8de",
    "broker": "#f0b27a",
    "telemetry": "#a9d39e",
    "classifier": "#d7a9e3",
    "precision": "#e6d690",
    "bitlane": "#9ad1d4",
}
_OTHER = "#dcdcdc"


@dataclass(slots=True)
class Node:
    """A function as it was called from its parent: samples in it or below, and those in itself."""

    name: str
    samples: int = 0
    own: int = 0
    children: dict[str, "Node"] = field(default_factory=dict[str, "Node"])


def read(folded: Iterable[str]) -> Node:
    """From `root;...;leaf count` lines, as `py-spy record --format raw` writes them. Line numbers are left out."""
    root = Node("all")
    for line in folded:
        stack, _, count = line.rstrip().rpartition(" ")
        if not stack:
            continue
        node = root
        node.samples += int(count)
        for frame in map(_named, stack.split(";")):
            node = node.children.setdefault(frame, Node(frame))
            node.samples += int(count)
        node.own += int(count)
    return root


def _named(frame: str) -> str:
    """`function (path/of/file.py)`, the path from the package on."""
    match = _FRAME.match(frame)
    if match is None:
        return frame
    path = match["file"].rpartition("site-packages/")[2].rpartition("/lib/python3.")[2]
    return f"{match['function']} ({path})"


def package_of(name: str) -> str:
    """The first folder of a frame's file; the function where there is none."""
    match = _FRAME.match(name)
    if match is None:
        return name
    first, slash, _ = match["file"].partition("/")
    return re.sub(r"^\d+$", "python", first) if slash else first.removesuffix(".py").removesuffix(".pyx")


def event_loop(root: Node) -> Node:
    """The part of the asyncio loop. Other threads wait most of the time, and py-spy does not always see that they do.

    Raises:
        LookupError: no loop was sampled.
    """
    for node in walk(root):
        if node.name.startswith("Runner.run "):
            return Node("the event loop", node.samples, node.own, node.children)
    raise LookupError("no event loop was sampled")


def walk(node: Node) -> Iterator[Node]:
    """Itself and all below, depth first."""
    yield node
    for child in node.children.values():
        yield from walk(child)


def by_package(root: Node) -> Mapping[str, int]:
    """Samples in each package's own code, the most first."""
    own: Counter[str] = Counter()
    for node in walk(root):
        if node.own:
            own[package_of(node.name)] += node.own
    return dict(own.most_common())


def by_function(root: Node, most: int) -> list[tuple[str, int, int]]:
    """Name, samples in it or below, samples in itself, of the functions that have the most of the latter."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, samples, below in _calls(root, frozenset()):
        own[name] += samples
        total[name] += below
    return [(name, total[name], samples) for name, samples in own.most_common(most)]


def _calls(node: Node, above: frozenset[str]) -> Iterator[tuple[str, int, int]]:
    """A function that calls itself counts once."""
    for child in node.children.values():
        yield child.name, child.own, 0 if child.name in above else child.samples
        yield from _calls(child, above | {child.name})


def flame_graph(root: Node, title: str, *, least: float = 0.004) -> str:
    """As SVG, callers above what they call; what has less than a share of `least` of all is left out."""
    shapes: list[str] = []
    depth = _draw(root, 0, 0.0, root.samples * least, (_WIDTH - 2 * _MARGIN) / root.samples, root.samples, shapes)
    height = _TOP + (depth + 1) * _LINE + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="monospace" font-size="11" fill="#222">'
    )
    key = "".join(
        f'<rect x="{_WIDTH - 640 + 105 * i}" y="12" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_WIDTH - 624 + 105 * i}" y="22">{name}</text>'
        for i, (name, colour) in enumerate(_COLOURS.items())
    )
    text = f'<text x="{_MARGIN}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>'
    back = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([head, back, text, key, *shapes, "</svg>"]) + "\n"


def _draw(node: Node, depth: int, left: float, least: float, scale: float, whole: int, shapes: list[str]) -> int:
    """Appends a box for a node and its children; the greatest depth that was drawn."""
    x, y, width = _MARGIN + left * scale, _TOP + depth * _LINE, node.samples * scale
    label = node.name if len(node.name) * _LETTER < width else node.name.partition(" (")[0]
    room = int(width / _LETTER)
    text = label if len(label) <= room else label[: room - 1] + "…" if room > 3 else ""
    shapes.append(
        f"<g><title>{escape(node.name)}: {100 * node.samples / whole:.1f} %</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" height="{_LINE - 1}" '
        f'fill="{_COLOURS.get(package_of(node.name), _OTHER)}"/>'
        + (f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(text)}</text>' if text else "")
        + "</g>"
    )
    deepest = depth
    for child in sorted(node.children.values(), key=lambda child: -child.samples):
        if child.samples >= least:
            deepest = max(deepest, _draw(child, depth + 1, left, least, scale, whole, shapes))
        left += child.samples
    return deepest
