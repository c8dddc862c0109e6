"""Samples: good ones are read, a bad one names its line."""

from pathlib import Path

import pytest

from checkpoints.failures import CheckpointProblem
from checkpoints.samples import read_samples


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_prompts_and_conversations_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '{"text": "one", "task": "math"}',
        "",
        '{"prompt": "two"}',
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "three"}]}',
    )
    one, two, three = read_samples(path)
    assert (one.messages[0].content, one.task, one.line) == ("one", "math", 1)
    assert (two.messages[0].role, two.line) == ("user", 3)
    assert [turn.role for turn in three.messages] == ["system", "user"]
    assert len(read_samples(path, most=2)) == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", r":2: is not JSON"),
        ("[]", r":2: want text \(or prompt\) or messages"),
        ('{"text": ""}', r":2: want text"),
        ('{"text": "x", "messages": [{"role": "user", "content": "y"}]}', r":2: want text .* one of them only"),
        ('{"messages": [{"role": "robot", "content": "y"}]}', r":2: each of messages needs a role"),
        ('{"text": "x", "task": "poetry"}', r":2: task 'poetry' is no task class; known are chat"),
    ],
)
def test_a_bad_line_names_itself(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(CheckpointProblem, match=says):
        read_samples(written(tmp_path, '{"text": "good"}', line))


def test_files_that_are_none_name_themselves(tmp_path: Path) -> None:
    with pytest.raises(CheckpointProblem, match=r"nowhere: there is no such file"):
        read_samples(tmp_path / "nowhere")
    with pytest.raises(CheckpointProblem, match="has no samples"):
        read_samples(written(tmp_path, ""))
    (tmp_path / "bytes").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(CheckpointProblem, match="is not UTF-8"):
        read_samples(tmp_path / "bytes")
