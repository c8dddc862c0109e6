"""What differs between two policies, and what a good one probably does not mean."""

import pytest

from precision.decision import GateState
from precision.policy.diff import diff
from precision.policy.document import read_policy
from precision.policy.lint import Setting, lint
from precision.tasks import Task
from tests.unit.precision.requests import FP4, FP8, POOLS, pool

RULE = "rules: [{name: r, match: {task: [math, code], labels: {team: 'a*'}, tokens: {max: 9}}, forbid: FP4}]"


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("{}", "{}", []),
        ("{}", "{spill: {pressure: 4}, client: {floor: true}, never_below: {}}", []),
        ("{}", "map: {code: FP4}", [("map.code", "", "FP4")]),
        (
            "never_below: {add: [math]}",
            "{}",
            [("never_below", "[finance, legal, math, medical]", "[finance, legal, medical]")],
        ),
        (
            "{}",
            RULE,
            [
                ("rules (order)", "", "r"),
                ("rules[r].match", "", "{task: [code, math], tokens: {max: 9}, labels: {team: a*}}"),
                ("rules[r].forbid", "", "[FP4]"),
            ],
        ),
        (
            RULE,
            RULE.replace("forbid", "at_least"),
            [("rules[r].at_least", "", "FP4"), ("rules[r].forbid", "[FP4]", "")],
        ),
        (
            "{}",
            "spill: false",
            [
                ("spill", "true", "false"),
                *((f"spill.{n}", v, "") for n, v in (("pressure", "4"), ("min_workers", "1"), ("tasks", "all"))),
            ],
        ),
        ("client: {pins: []}", "client: {pins: [FP8]}", [("client.pins", "[]", "[FP8]")]),
    ],
)
def test_differences(old: str, new: str, changes: list[tuple[str, str, str]]) -> None:
    found = diff(read_policy(old, "a"), read_policy(new, "b"))
    assert [(change.path, change.before, change.after) for change in found] == changes


USUAL = Setting("m", POOLS, {Task.CODE: GateState.PASSED})
RAW = Setting("m", {FP4: pool(FP4, calibrated=False), FP8: pool(FP8)}, {})


@pytest.mark.parametrize(
    ("document", "setting", "findings"),
    [
        ("{}", USUAL, []),
        ("map: {code: FP4}", USUAL, []),
        ("map: {math: FP4}", USUAL, [("map.math", "until FP4 passes its gate; it is unvalidated")]),
        ("{}", RAW, [("allow_uncalibrated_fp4", "is uncalibrated: FP8 serves")]),
        ("never_below: {remove: [legal]}", USUAL, [("never_below", "lets legal, a critical class")]),
        (
            "rules: [{name: a, match: {}, use: FP8}, {name: b, match: {task: math}, use: FP8}]",
            USUAL,
            [("rules[1]", "rule a decides")],
        ),
        ("rules: [{name: a, match: {}, use: FP8}, {name: b, match: {}, forbid: FP4}]", USUAL, []),
        ("rules: [{name: a, match: {task: legal}, use: FP4}]", USUAL, [("rules[0].use", "has no effect")]),
        ("rules: [{name: a, match: {model: x}, use: FP8}]", USUAL, [("rules[0].match.model", "there is no model 'x'")]),
        ("rules: [{name: a, match: {}, at_least: BF16}]", USUAL, [("rules[0]", "refuses every request")]),
        ("rules: [{name: a, match: {}, forbid: [FP4, FP8]}]", USUAL, [("rules[0]", "refuses every request")]),
    ],
)
def test_findings(document: str, setting: Setting, findings: list[tuple[str, str]]) -> None:
    found = lint(read_policy(document, "v"), [setting])
    assert [fault.path for fault in found] == [path for path, _ in findings]
    assert all(text in fault.reason for fault, (_, text) in zip(found, findings, strict=True)), found
