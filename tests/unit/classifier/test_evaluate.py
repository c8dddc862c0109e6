"""`python -m classifier evaluate`: its figures on a file that can be checked by hand, and its errors."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from classifier import Guess
from classifier.__main__ import main
from classifier.evaluate import BadRowError, evaluate, percentile, read
from classifier.model import classify
from classifier.scores import Judged, score
from precision.tasks import Task


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def by_rote(text: str, earlier: Sequence[str] = (), /) -> Guess:
    """The risk is the text."""
    risk = float(text)
    return Guess(Task.MATH if risk >= 0.5 else Task.CHAT, 1.0, risk)


def row(text: str, task: str, **more: object) -> dict[str, object]:
    return {"text": text, "task": task, "fp8_required": task == "math", **more}


def test_figures_by_slice_and_overall(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        row("0.9", "math", slice="a"),
        row("0.4", "math", slice="a"),
        row("0.1", "chat", slice="a"),
        row("0.6", "chat", slice="b"),
        row("0.2", "code", source="b"),
        {"text": "0.1", "task": "chat", "fp8_required": True, "long_context": True, "slice": "long"},
    )
    report = evaluate(path, by_rote)
    assert set(report.slices) == {"a", "b", "long"}
    assert report.slices["a"].fp8_recall == 0.5
    assert report.slices["a"].auc == 1.0
    assert report.slices["b"].fp4_kept == 0.5
    assert report.slices["b"].fp8_recall is None
    assert report.slices["long"].fp8_recall == 1.0  # by the rule on tokens
    assert report.slices["long"].task_accuracy is None
    assert report.overall.prompts == 6
    assert report.overall.fp8_recall == pytest.approx(2 / 3)
    assert report.overall.fp4_kept == pytest.approx(2 / 3)
    assert report.overall.task_accuracy == pytest.approx(2 / 5)
    assert report.overall.auc == pytest.approx(5 / 6)
    assert report.model_bytes < 4_000_000
    assert json.loads(report.to_json())["overall"]["prompts"] == 6


def test_macro_f1_counts_each_class_alike_and_ties_count_half() -> None:
    rows = [
        Judged(Task.CHAT, False, Task.CHAT, False, 0.5),
        Judged(Task.CHAT, False, Task.MATH, True, 0.5),
        Judged(Task.MATH, True, Task.MATH, True, 0.5),
    ]
    scores = score(rows)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert scores.auc == 0.5


def test_percentiles() -> None:
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert percentile([7], 0.01) == 7


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[]", "an object"),
        ('{"task": "chat", "fp8_required": false}', "text: is None"),
        ('{"text": "x", "task": "poetry", "fp8_required": false}', "task: is 'poetry'"),
        ('{"text": "x", "task": "chat", "fp8_required": "no"}', "fp8_required: is 'no'"),
        ('{"text": "x", "task": "chat", "fp8_required": true, "long_context": 1}', "long_context: is 1"),
        ('{"text": "x", "task": "chat", "fp8_required": true, "slice": 3}', "slice: is 3"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_row_names_file_line_and_field(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("1", "math")) + "\n\n" + line + "\n", encoding="utf-8")
    with pytest.raises(BadRowError) as error:
        list(read(path))
    assert str(error.value).startswith(f"{path}:3: ")
    assert says in str(error.value)


def test_a_file_that_is_missing_empty_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(BadRowError, match="cannot be read"):
        evaluate(tmp_path / "none.jsonl", by_rote)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadRowError, match="no rows"):
        evaluate(tmp_path / "empty.jsonl", by_rote)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRowError, match="cannot be read"):
        evaluate(tmp_path / "bytes.jsonl", by_rote)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.jsonl", row("What is 17 * 23?", "math"), row("hello, how are you?", "chat"))
    out = tmp_path / "out.json"
    assert main(["evaluate", str(path), "--json", str(out)]) == 0
    assert "overall" in capsys.readouterr().out
    assert json.loads(out.read_text())["overall"]["fp8_recall"] == 1.0
    assert main(["classify", "What is 17 * 23?"]) == 0
    assert "math" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err


def test_hard_prompts_reach_the_goal() -> None:
    report = evaluate(Path(__file__).parents[2] / "data" / "hard_prompts.jsonl", classify)
    assert report.overall.fp8_recall is not None
    assert report.overall.fp4_kept is not None
    assert report.overall.fp8_recall >= 0.95
    assert report.overall.fp4_kept >= 0.55
