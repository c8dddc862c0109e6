"""Recorded requests: a bad row is named by file, line and field."""

from pathlib import Path

import pytest

from bitlane import ConfigError, InvalidRequest, Violation
from bitlane.cli.recording import Recording


def write(folder: Path, *lines: str) -> str:
    path = folder / "requests.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


GOOD = '{"text": "hi", "model": "m", "task": "chat", "labels": {"a": "b"}, "priority": "batch", "prompt_tokens": 3}'


def test_good_rows(tmp_path: Path) -> None:
    recording = Recording(write(tmp_path, GOOD, "", '{"messages": [{"role": "user", "content": "x"}], "model": "m"}'))
    assert [row.model for row in recording.rows] == ["m", "m"]
    assert (recording.rows[0].text, recording.rows[0].prompt_tokens, recording.rows[1].text) == ("hi", 3, None)


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        ("{", "", "is no JSON"),
        ("[1]", "", "is no JSON object"),
        ("[" * 100_000, "", "is no JSON"),
        ('{"text": "x"}', "model", "is missing"),
        ('{"model": "m"}', "text", "either text or messages"),
        ('{"model": "m", "text": "x", "messages": []}', "text", "either text or messages"),
        ('{"model": "m", "text": 1}', "text", "must be a text"),
        ('{"model": "m", "text": "x", "tasks": "y"}', "tasks", "is not known"),
        ('{"model": "m", "text": "x", "labels": {"a": 1}}', "labels", "an object of texts"),
        ('{"model": "m", "text": "x", "prompt_tokens": -1}', "prompt_tokens", "a whole number"),
        ('{"model": "m", "messages": "x"}', "messages", "a list"),
    ],
)
def test_bad_rows(tmp_path: Path, line: str, field: str, said: str) -> None:
    path = write(tmp_path, GOOD, "", line)
    with pytest.raises(InvalidRequest) as bad:
        Recording(path)
    (violation,) = bad.value.violations
    assert violation.field == f"{path}:3" + (f": {field}" if field else "")
    assert said in violation.description


def test_what_the_server_refuses_is_told_by_line(tmp_path: Path) -> None:
    recording = Recording(write(tmp_path, GOOD, "", GOOD))
    refused = InvalidRequest(
        "bad", violations=[Violation("rows[1].model", "is unknown"), Violation("tenant", "is empty")]
    )
    told = recording.in_words_of_the_file(refused)
    assert [violation.field for violation in told.violations] == [f"{recording.path}:3: model", "tenant"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        Recording(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="holds no request"):
        Recording(write(tmp_path, "", " "))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no UTF-8"):
        Recording(str(tmp_path / "bytes"))
