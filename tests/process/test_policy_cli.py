"""`bitlane policy` and `bitlane gates` as a user runs them: output, exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.process.scripted import ACME, ACME_ADMIN, OPERATOR

EXAMPLE = "config/policies/support-desk.yaml"


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1}') as stack:
        yield stack.start().target


def run(target: str, *arguments: str, key: str = ACME_ADMIN) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "bitlane", "--target", target, *arguments]
    environment = {**os.environ, "BITLANE_API_KEY": key}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, env=environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_lint(target: str, tmp_path: Path) -> None:
    code, out, _ = run(target, "policy", "lint", EXAMPLE)
    assert (code, out.splitlines()[-1]) == (0, f"{EXAMPLE}: good")
    bad = tmp_path / "bad.yaml"
    bad.write_text("rules:\n  - name: a\n    match: {tokens: {min: x}}\n    use: FP8\n")
    code, out, _ = run(target, "policy", "lint", str(bad))
    assert (code, out) == (1, "fault  rules[0].match.tokens.min: is the text 'x'; a whole number is needed\n")
    assert json.loads(run(target, "policy", "lint", str(bad), "--json")[1])["faults"][0]["path"].endswith("tokens.min")
    assert run(target, "policy", "lint", "/nowhere")[::2] == (
        2,
        "bitlane: cannot read /nowhere: No such file or directory\n",
    )


def test_the_editing_round(target: str, tmp_path: Path) -> None:
    """Get, edit, put; a put of what was got before another's put is refused."""
    code, first, _ = run(target, "policy", "get")
    assert (code, first.splitlines()[0].rpartition(", by ")[2]) == (0, "operator/local")
    file = tmp_path / "policy.yaml"
    file.write_text(first + "map: {chat: FP8}\n")
    code, out, _ = run(target, "policy", "put", str(file), "--note", "chat to FP8")
    assert (code, out.split(";")[0]) == (0, "version 2 of acme acts now")
    file.write_text(first)
    code, _, err = run(target, "policy", "put", str(file))
    assert code == 1
    assert "(ETAG_MISMATCH)" in err
    assert run(target, "policy", "put", str(file), "--force")[0] == 0
    code, out, _ = run(target, "policy", "versions")
    assert [line.split()[0] for line in out.splitlines()] == ["version", "3", "2", "1"]
    assert "chat to FP8" in out
    code, out, _ = run(target, "policy", "rollback", "2")
    assert (code, out.split(";")[0]) == (0, "version 4 acts now, the same as version 2")
    assert "map: {chat: FP8}" in run(target, "policy", "get")[1]
    assert run(target, "policy", "diff", "live", str(file))[1] == "map.chat\n  - FP8\n"
    assert run(target, "policy", "diff", "live", "live")[1:] == ("", "no difference\n")


def test_replay(target: str, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    rows = [
        {"text": "Tell me a joke", "model": "smollm2", "task": "creative_writing"},
        {"text": "2 + 2", "model": "smollm2", "task": "math"},
    ]
    requests.write_text("".join(json.dumps(row) + "\n" for row in rows * 5))
    new = tmp_path / "new.yaml"
    new.write_text(
        "{allow_uncalibrated_fp4: true, rules: [{name: jokes, match: {task: creative_writing}, at_least: FP8}]}"
    )
    old = tmp_path / "old.yaml"
    old.write_text("allow_uncalibrated_fp4: true")
    code, out, _ = run(
        target, "policy", "replay", "--old", str(old), "--new", str(new), str(requests), "--examples", "1"
    )
    assert code == 0
    assert out.splitlines() == [
        "10 requests, 5 would move, 0 more for another reason or rule",
        "",
        "         before     after",
        "in FP4   5 (50.0%)  0 (0.0%)",
        "refused  0          0",
        "",
        "requests  task              before               after",
        "5         creative writing  fp4 low sensitivity  fp8 rule floor jokes",
        "",
        "fp4 low sensitivity -> fp8 rule floor jokes  Tell me a joke",
    ]
    requests.write_text(json.dumps(rows[0]) + "\n\n" + json.dumps(rows[1] | {"model": "gpt"}) + "\n")
    code, _, err = run(target, "policy", "replay", "--new", str(new), str(requests))
    assert code == 1
    assert f"{requests}:3: model: is 'gpt'; there are smollm2" in err
    requests.write_text(json.dumps(rows[0] | {"task": "maths"}))
    code, _, err = run(target, "policy", "replay", "--new", str(new), str(requests))
    assert code == 2
    assert f"{requests}:1: task: 'maths' is none of" in err


def test_shadow(target: str) -> None:
    assert run(target, "policy", "shadow")[2] == "no shadow policy is attached\n"
    code, out, _ = run(target, "policy", "shadow", EXAMPLE)
    assert (code, out.splitlines()[-1].split(";")[0]) == (0, "shadow 1 of acme is attached")
    assert run(target, "policy", "shadow")[1].splitlines()[1] == "0 requests, 0 of them in another precision"
    assert run(target, "policy", "shadow", "--clear")[0] == 0
    assert run(target, "policy", "shadow", "--json")[1] == "null\n"


def test_gates(target: str) -> None:
    assert run(target, "gates", key=ACME) == (0, "", "14 task classes are unvalidated\n")
    assert run(target, "gates", "set", "smollm2", "code", "passed")[::2] == (
        1,
        "bitlane: this key may not be used for that: it has no scope operate (SCOPE_MISSING)\n",
    )
    code, out, _ = run(
        target, "gates", "set", "smollm2", "code", "quarantined", "--evidence", "broken kernel", key=OPERATOR
    )
    assert (code, out.splitlines()[1].split()[2:5]) == (0, ["code", "quarantined", "operator/local"])
    _, out, err = run(target, "gates", "list", "smollm2", key=ACME)
    assert "broken kernel" in out
    assert err == "13 more are unvalidated\n"


def test_gates_from_a_verification(target: str, tmp_path: Path) -> None:
    digest = f"sha256:{'ab' * 32}"
    tasks = {
        "chat": {"agreement": 0.995, "tokens": 4000, "passed": True},
        "summarization": {"agreement": 0.91, "tokens": 4000, "passed": False},
        "code": {"agreement": 1.0, "tokens": 20, "passed": True},
        "unclassified": {"agreement": 1.0, "tokens": 4000, "passed": True},
    }
    good = {"version": 1, "profile": "nvfp4", "checkpoint_digest": digest, "target_agreement": 0.99}
    good |= {"perplexity": {"ratio": 1.07}, "tasks": tasks}
    report = tmp_path / "report.json"
    report.write_text(json.dumps(good))
    code, out, err = run(target, "gates", "import", "smollm2", str(report), "--json", key=OPERATOR)
    assert code == 0
    assert err.startswith("code: only 20 tokens were compared, fewer than 256: its gate stays as it is")
    assert {(gate["task"], gate["state"], gate["checkpoint_digest"]) for gate in json.loads(out)} == {
        ("chat", "passed", digest),
        ("summarization", "failed", digest),
    }
    assert "0.9100 of 4000 next tokens as the source's, target 0.99; perplexity x1.070" in out
    listed = json.loads(run(target, "gates", "list", "smollm2", "--json", key=ACME)[1])
    states = {gate["task"]: gate["state"] for gate in listed if gate["checkpoint_digest"] == digest}
    assert (states["chat"], states["summarization"], states["code"]) == ("passed", "failed", "unvalidated")
    bad: tuple[tuple[dict[str, object], str], ...] = (
        ({"profile": "fp8"}, "profile is 'fp8'; gates are about FP4"),
        ({"version": 2}, "version is 2; this bitlane reads 1"),
        ({"checkpoint_digest": ""}, "checkpoint_digest: want sha256:..."),
        ({"tasks": {"maths": {}}}, "tasks: 'maths' is no task class"),
        ({"tasks": {"math": {"agreement": "good"}}}, "agreement: want a number, got 'good'"),
        ({"tasks": {}}, "tasks: names no task class"),
    )
    for change, says in bad:
        report.write_text(json.dumps({**good, **change}))
        code, _, err = run(target, "gates", "import", "smollm2", str(report), key=OPERATOR)
        assert code == 2
        assert f"{report}: {says}" in err


def test_explain_tells_it_all(target: str) -> None:
    """Every rule with its outcome, the gate, the pools, the reason, the policy's version."""
    assert run(target, "policy", "put", EXAMPLE, "--force")[0] == 0
    label = ("--label", "queue=refund-eu")
    code, out, _ = run(target, "explain", "--task", "chat", "--pin", "fp4", *label, "Hello, how are you?", key=ACME)
    assert code == 0
    assert out.startswith("fp8 in pool smollm2/fp8\n  reason       rule floor\n")
    for line in (
        "  rule         refunds",
        "  ignored      precision.pin, which this tenant's clients may not ask for",
        "  * rule refunds             matches: at least FP8",
        "    rule untested-languages  does not match: the language is en",
        "    rule canned-replies      does not match: the task is chat",
        "  * default map              chat is low: FP4",
        "    capacity                 smollm2/fp8: 1 worker, 0 waiting for",
    ):
        assert line in out


@pytest.mark.parametrize("action", ["", "lint", "diff", "replay", "get", "put", "versions", "rollback", "shadow"])
def test_every_action_has_an_example(action: str) -> None:
    command = [sys.executable, "-m", "bitlane", "policy", *action.split(), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"example:\n  bitlane policy {action}" in done.stdout
