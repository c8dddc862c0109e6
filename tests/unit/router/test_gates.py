"""Gates: the written word beats the configuration's, and of several checkpoints the most careful one counts."""

import json
from pathlib import Path

import pytest
import yaml

from broker.documents import Document
from precision.decision import GateState
from precision.tasks import Task
from router.config import Config
from router.gates import GateBook, GateKey, gate_text

_FILE = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
_FILE["models"][0]["gates"] = {"factual_qa": "passed"}
CONFIG = Config.model_validate(_FILE)
MODEL = CONFIG.models_by_name["smollm2"]
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def written(book: GateBook, digest: str, task: Task, state: GateState, evidence: str = "") -> None:
    key = GateKey("smollm2", digest, task)
    kind, _, name = key.document.partition("/")
    assert kind == "gate"
    assert GateKey.of(name) == key
    book.load(name, Document(key.document, 1, "1-x", "operator/op", "", 1000, gate_text(state, evidence)))


def state(book: GateBook, task: Task, *digests: str) -> GateState:
    return book.states(MODEL, frozenset(digests))[task]


def test_the_configuration_speaks_until_something_was_written() -> None:
    book = GateBook(CONFIG)
    assert state(book, Task.FACTUAL_QA) is GateState.PASSED
    assert state(book, Task.FACTUAL_QA, OLD) is GateState.PASSED
    assert state(book, Task.CODE, OLD) is GateState.UNVALIDATED
    written(book, OLD, Task.FACTUAL_QA, GateState.FAILED)
    assert state(book, Task.FACTUAL_QA, OLD) is GateState.FAILED
    assert state(book, Task.FACTUAL_QA, NEW) is GateState.PASSED
    book.reset()
    assert state(book, Task.FACTUAL_QA, OLD) is GateState.PASSED


def test_of_several_checkpoints_the_most_careful_counts() -> None:
    book = GateBook(CONFIG)
    written(book, OLD, Task.CODE, GateState.PASSED)
    assert state(book, Task.CODE, OLD) is GateState.PASSED
    assert state(book, Task.CODE, OLD, NEW) is GateState.UNVALIDATED
    written(book, NEW, Task.CODE, GateState.QUARANTINED)
    assert state(book, Task.CODE, OLD, NEW) is GateState.QUARANTINED


def test_engines_without_a_checkpoint_have_gates_too() -> None:
    book = GateBook(CONFIG)
    written(book, "", Task.CHAT, GateState.QUARANTINED, "why")
    assert state(book, Task.CHAT, "") is GateState.QUARANTINED
    (gate,) = [gate for gate in book.gates(MODEL, frozenset()) if gate.author == "operator/op"]
    assert (gate.key.digest, gate.evidence, gate.time_ms) == ("", "why", 1000)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", json.dumps({"state": "fine"}), json.dumps({"state": 1})])
def test_what_is_no_gate_changes_nothing(text: str) -> None:
    book = GateBook(CONFIG)
    written(book, OLD, Task.CHAT, GateState.FAILED)
    key = GateKey("smollm2", OLD, Task.CHAT).document
    with pytest.raises(ValueError, match=r".*"):
        book.load(key.partition("/")[2], Document(key, 2, "2-x", "a", "", 2000, text))
    assert state(book, Task.CHAT, OLD) is GateState.FAILED


@pytest.mark.parametrize("name", ["", "a/b", "a/b/c/d", "smollm2/none/maths"])
def test_a_name_that_is_no_gate_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        GateKey.of(name)
