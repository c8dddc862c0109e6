"""Policy documents: what they may say, and what is said about those that are wrong."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precision.decision import PriorityClass
from precision.policy import Brownout, ClientRights, Excess, Match, Policy, Rule, Spill
from precision.policy.document import PolicyInvalid, read_policy
from precision.policy.glob import Glob
from precision.policy.text import MAX_BYTES, TextInvalid, read_text
from precision.tasks import Sensitivity, Task
from tests.unit.precision.requests import BF16, FP4, FP8

WHOLE = """
description: Everything that a policy can say.
map: {code: FP4, chat: fp8}
rules:
  - name: contracts
    match:
      task: [legal, finance]
      sensitivity: critical
      model: smollm2
      tokens: {min: 10, max: 4000}
      labels: {team: "risk-*", no: yes}
      priority: [batch, standard]
      language: [no-such, zh]
    at_least: BF16
  - {name: rest, match: {}, use: FP4}
  - {name: ban, match: {task: math}, forbid: [FP4]}
never_below: {add: [science], remove: [legal]}
confidence_threshold: 0.5
risk_threshold: 1
long_context_tokens: 1000
allow_uncalibrated_fp4: true
spill: {pressure: 2, min_workers: 2, tasks: chat}
brownout: {tasks: [math], pressure: 3, fp4_pressure: .5, min_fp4_workers: 2}
client: {floor: false, pins: [FP8], on_excess: ignore}
""".replace("no-such, ", "")

EXPECTED = Policy(
    version="v",
    default_map={Task.CODE: FP4, Task.CHAT: FP8},
    rules=(
        Rule(
            "contracts",
            Match(
                frozenset({Task.LEGAL, Task.FINANCE}),
                frozenset({Sensitivity.CRITICAL}),
                frozenset({"smollm2"}),
                10,
                4000,
                (("team", Glob("risk-*")), ("no", Glob("yes"))),
                frozenset({PriorityClass.BATCH, PriorityClass.STANDARD}),
                frozenset({"zh"}),
            ),
            at_least=BF16,
        ),
        Rule("rest", Match(), use=FP4),
        Rule("ban", Match(frozenset({Task.MATH})), forbid=frozenset({FP4})),
    ),
    never_below_fp8=frozenset({Task.MEDICAL, Task.FINANCE, Task.SCIENCE}),
    confidence_threshold=0.5,
    risk_threshold=1.0,
    long_context_tokens=1000,
    allow_uncalibrated_fp4=True,
    spill=Spill(2.0, 2, frozenset({Task.CHAT})),
    brownout=Brownout(frozenset({Task.MATH}), 3.0, 0.5, 2),
    client=ClientRights(floor=False, pins=frozenset({FP8}), on_excess=Excess.IGNORE),
)


def test_everything_that_a_policy_can_say() -> None:
    assert read_policy(WHOLE, "v") == EXPECTED


def test_json_says_the_same() -> None:
    assert read_policy(json.dumps(read_text(WHOLE)), "v") == EXPECTED
    assert read_policy(json.dumps(read_text(WHOLE), indent=2), "v") == EXPECTED


def test_json_escapes_beyond_the_first_plane() -> None:
    policy = read_policy(json.dumps({"rules": [{"name": "a\U0001f600/b", "match": {}, "use": "FP8"}]}), "v")
    assert policy.rules[0].name == "a\U0001f600/b"


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "---\n", "null"])
def test_an_empty_document_is_the_products_default(text: str) -> None:
    assert read_policy(text, "default-1") == Policy()


def test_switches() -> None:
    assert read_policy("{spill: false, brownout: false, never_below: []}", "v") == Policy(
        "v", spill=None, never_below_fp8=frozenset()
    )
    assert read_policy("{spill: true, client: {pins: []}}", "v").client.pins == frozenset()


def rule(text: str) -> str:
    return f"rules: [{{name: r, {text}}}]"


FAULTS: list[tuple[str, str, str]] = [
    # Shape.
    ("[1]", "", "a list; a mapping is needed"),
    ("maps: {}", "maps", "did you mean 'map'?"),
    ("xyz: 1", "xyz", "known are description, map, rules"),
    ("map: {maths: FP8}", "map.maths", "did you mean 'math'?"),
    ("map: {math: FP6}", "map.math", "'FP6', which is not known"),
    ("map: [math]", "map", "a list; a mapping is needed"),
    ("rules: {}", "rules", "a mapping; a list is needed"),
    (f"rules: [{', '.join(['{}'] * 201)}]", "rules", "201 entries; at most 200"),
    ("rules: [1]", "rules[0]", "the number 1; a mapping is needed"),
    ("rules: [{match: {}, use: FP8}]", "rules[0].name", "is missing"),
    (rule("match: {}"), "rules[0]", "has none of use, at_least, forbid"),
    (rule("match: {}, use: FP8, forbid: FP4"), "rules[0]", "has use and forbid; exactly one"),
    (rule("use: FP8"), "rules[0].match", "write `match: {}`"),
    (rule("match: {}, atleast: FP8"), "rules[0].atleast", "did you mean 'at_least'?"),
    (rule("match: {}, forbid: []"), "rules[0].forbid", "is empty"),
    (rule("match: {}, forbid: [FP4, FP8, BF16]"), "rules[0].forbid", "names every precision"),
    ("rules: [{name: a, match: {}, use: FP8}, {name: a, match: {}, use: FP8}]", "rules[1].name", "as rules[0] is"),
    (rule("match: {tasks: math}, use: FP8"), "rules[0].match.tasks", "did you mean 'task'?"),
    (rule("match: {task: []}, use: FP8"), "rules[0].match.task", "is empty"),
    (rule("match: {task: [math, maths]}, use: FP8"), "rules[0].match.task[1]", "did you mean 'math'?"),
    (rule("match: {tokens: {min: x}}, use: FP8"), "rules[0].match.tokens.min", "the text 'x'; a whole number"),
    (rule("match: {tokens: {min: -1}}, use: FP8"), "rules[0].match.tokens.min", "is -1; use 0 to"),
    (rule("match: {tokens: {min: 9, max: 3}}, use: FP8"), "rules[0].match.tokens.min", "is 9, above max"),
    (rule("match: {tokens: {}}, use: FP8"), "rules[0].match.tokens", "give min, max or both"),
    (rule("match: {labels: {}}, use: FP8"), "rules[0].match.labels", "is empty"),
    (rule("match: {labels: {a: 1}}, use: FP8"), "rules[0].match.labels.a", "put it in quotes"),
    (rule("match: {labels: {a: '*a*a*a*a*'}}, use: FP8"), "rules[0].match.labels.a", "5 stars; at most 4"),
    (rule("match: {priority: urgent}, use: FP8"), "rules[0].match.priority", "use interactive, standard, batch"),
    (rule("match: {language: xx}, use: FP8"), "rules[0].match.language", "no language that is recognised"),
    (f"rules: [{{name: {'x' * 65}, match: {{}}, use: FP8}}]", "rules[0].name", "65 characters"),
    ('rules: [{name: "a\\nb", match: {}, use: FP8}]', "rules[0].name", "control characters"),
    # Values.
    ("confidence_threshold: 1.1", "confidence_threshold", "is 1.1; use 0 to 1"),
    ("risk_threshold: .nan", "risk_threshold", "the text '.nan'; a number is needed"),
    ("risk_threshold: 1e999", "risk_threshold", "is inf; use 0 to 1"),
    ("risk_threshold: true", "risk_threshold", "is true; a number"),
    ("long_context_tokens: 0", "long_context_tokens", "is 0; use 1 to"),
    ("long_context_tokens: 1.5", "long_context_tokens", "a whole number"),
    (f"long_context_tokens: {'9' * 400}", "long_context_tokens", "a whole number"),
    ("allow_uncalibrated_fp4: yes", "allow_uncalibrated_fp4", "the text 'yes'; use true or false"),
    ("spill: {presure: 1}", "spill.presure", "did you mean 'pressure'?"),
    ("spill: {pressure: 0}", "spill.pressure", "is 0; use 0.01 to"),
    ("brownout: true", "brownout", "needs to name what may be lowered"),
    ("brownout: {pressure: 2}", "brownout.tasks", "is missing"),
    ("brownout: {tasks: [medical]}", "brownout.tasks", "medical is critical"),
    ("client: {pins: [FP5]}", "client.pins[0]", "which is not known"),
    ("client: {on_excess: shrug}", "client.on_excess", "use refuse, ignore"),
    # Contradictions.
    ("never_below: [science]", "never_below", "write {add: [...], remove: [...]}"),
    ("never_below: {remove: [math]}", "never_below.remove", "math is not among the defaults"),
    ("map: {legal: FP4}", "map.legal", "legal may never go below FP8"),
    ("{never_below: {add: [math]}, brownout: {tasks: [math]}}", "brownout.tasks", "math may never go below FP8"),
    # Hostile texts.
    ("a: &x 1\nb: *x", "", "line 1, column 4: the anchor &x is not allowed"),
    ("map: *x", "", "the alias *x is not allowed"),
    ("map: {<<: {}}", "", "the merge key << is not allowed"),
    ("!!python/object/apply:os.system ['true']", "", "the tag tag:yaml.org"),
    ("map: !!binary aGk=", "", "is not allowed"),
    ("map: {code: FP8}\nmap: {}", "", "line 2, column 1: the key 'map' is there twice"),
    ("{} \n---\n{}", "", "a second document begins"),
    ('{"description": "a\u2028b"}', "", "the line break U+2028"),
    ("map: {\0}", "", "a NUL character at position 6"),
    ("[" * 50_000, "", "nested more than 8 levels deep"),
    ("{a: " * 9 + "1" + "}" * 9, "", "nested more than 8 levels deep"),
    ("map: {a: b", "", "is no YAML or JSON"),
    ("? [a]\n: b", "", "a key must be a text"),
    ("\ud800", "", "is no YAML or JSON"),
    ("x" * (MAX_BYTES + 1), "", f"at most {MAX_BYTES}"),
    ("description: " + "x" * 2000, "", "a text of 2000 characters"),
    ("[" + "1," * 20_000 + "1]", "", "more than 10000 values"),
]


@pytest.mark.parametrize(
    ("text", "path", "reason"), FAULTS, ids=[f"{i}-{c[1] or 'text'}" for i, c in enumerate(FAULTS)]
)
def test_a_fault_has_its_path_and_reason(text: str, path: str, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(PolicyInvalid) as invalid:
        read_policy(text, "v")
    assert time.process_time() - began < 0.5
    assert any(fault.path == path and reason in fault.reason for fault in invalid.value.faults), invalid.value


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(PolicyInvalid) as invalid:
        read_policy("{map: {maths: FP8}, spill: 3, client: {flor: true}}", "v")
    assert [fault.path for fault in invalid.value.faults] == ["map.maths", "spill", "client.flor"]
    with pytest.raises(PolicyInvalid) as many:
        read_policy("{" + ", ".join(f"k{i}: 1" for i in range(1000)) + "}", "v")
    assert len(many.value.faults) == 32


@given(st.text(max_size=300) | st.text(alphabet="{}[]:,- \n&*!#|>'\"ab1", max_size=200))
def test_any_text_is_a_document_or_a_fault(text: str) -> None:
    with suppress(PolicyInvalid):
        read_policy(text, "v")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), plain, max_size=4))
def test_json_reads_as_json(values: dict[str, object]) -> None:
    """Or not at all: YAML refuses control characters that JSON allows."""
    for text in (json.dumps(values), json.dumps(values, ensure_ascii=False)):
        with suppress(TextInvalid):
            assert read_text(text) == values


@given(st.dictionaries(st.sampled_from(list(EXPECTED.__dataclass_fields__)), plain))
def test_any_values_are_a_policy_or_faults(values: dict[str, object]) -> None:
    with suppress(PolicyInvalid):
        read_policy(json.dumps(values), "v")
