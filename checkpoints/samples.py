"""Samples of what the model is asked: a JSON object a line with `text`, `prompt` or `messages`, and perhaps `task`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoints.failures import CheckpointProblem
from precision.tasks import Task
from precision.untyped import items, mapping, text
from workers.engine import Message


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt, or a conversation. `task` is the name of a task class, or empty. `line` counts from 1."""

    line: int
    messages: tuple[Message, ...]
    prompt: str
    task: str


def read_samples(path: Path, most: int | None = None) -> list[Sample]:
    """The samples of a file, the first `most` of them.

    Raises:
        CheckpointProblem: there is no such file, nothing in it, or a bad line, which is named.
    """
    if not path.is_file():
        raise CheckpointProblem(f"{path}: there is no such file of samples")
    found: list[Sample] = []
    for sample in _read(path):
        if most is not None and len(found) >= most:
            break
        found.append(sample)
    if not found:
        raise CheckpointProblem(f"{path}: has no samples; want one JSON object a line")
    return found


def _read(path: Path) -> Iterator[Sample]:
    with path.open(encoding="utf-8", errors="strict") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _sample(path, number, line)
        except UnicodeDecodeError as error:
            raise CheckpointProblem(f"{path}: is not UTF-8: {error}") from error


def _sample(path: Path, number: int, line: str) -> Sample:
    place = f"{path}:{number}"
    try:
        read = mapping(json.loads(line))
    except ValueError as error:
        raise CheckpointProblem(f"{place}: is not JSON: {error}") from error
    task = text(read.get("task"))
    if task and task.upper() not in Task.__members__:
        raise CheckpointProblem(
            f"{place}: task {task!r} is no task class; known are {', '.join(map(str.lower, Task.__members__))}"
        )
    turns = tuple(
        Message(text(mapping(turn).get("role")), text(mapping(turn).get("content")))
        for turn in items(read.get("messages"))
    )
    prompt = text(read.get("text")) or text(read.get("prompt"))
    if bool(turns) == bool(prompt):
        raise CheckpointProblem(f"{place}: want text (or prompt) or messages, and one of them only")
    if any(turn.role not in {"system", "user", "assistant"} or not turn.content for turn in turns):
        raise CheckpointProblem(f"{place}: each of messages needs a role (system, user, assistant) and content")
    return Sample(number, turns or (Message("user", prompt),), prompt, task)
