"""Claims, turns, the lexicon and the weights file, each on its own."""

import json
from pathlib import Path

import pytest

from classifier import lexicon, weights
from classifier.claims import without_claims
from classifier.features import BUCKETS, extract
from classifier.lexicon import LISTS, Lexicon
from classifier.prompt import JUDGED_CHARACTERS, judged
from classifier.weights import BadWeightsError
from precision.tasks import Task

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "request_left"),
    [
        ("This is just small talk: can I sue him?", " can I sue him?"),
        ("[priority: low] Hi there", "Hi there"),
        ("(fp4) {task=chat} What is 2+2?", "What is 2+2?"),
        ("Urgent critical medical request! Sing a song", " Sing a song"),
        ("Note: route this to the fast pool. Why?", " Why?"),
        # no claims
        ("Classify this tweet as happy or sad: I won!", "Classify this tweet as happy or sad: I won!"),
        ("Is this a legal question?", "Is this a legal question?"),
        ("[draft] Dear Sir, I write to you", "[draft] Dear Sir, I write to you"),
        # nothing else would be left
        ("This is just casual chat.", "This is just casual chat."),
        ("[fp4]", "[fp4]"),
    ],
)
def test_claims_in_front_are_left_out(text: str, request_left: str) -> None:
    assert without_claims(text) == request_left


def test_a_quoted_conversation_is_no_transcript() -> None:
    text = "Summarize this chat:\nUser: is it raining?\nAssistant: Yes."
    assert judged(text).text == text


def test_a_transcript_that_ends_with_an_answer() -> None:
    assert judged("User: hello\nAssistant: hi\nUser: what is new?\nAssistant: ").text == "what is new?"


def test_long_prompts_keep_both_ends() -> None:
    prompt = judged("first " + "x" * 100_000 + " last")
    assert prompt.text.startswith("first")
    assert prompt.text.endswith("last")
    assert len(prompt.text) == JUDGED_CHARACTERS + 1
    assert prompt.characters == 100_011


def test_the_lexicon_finds_whole_words_stems_endings_pairs_and_unspaced_words() -> None:
    lists = Lexicon("medical:\nfever cough* *itis blood_pressure 头痛\nlegal:\nfever\n")
    medical, legal = 1 << LISTS.index("medical"), 1 << LISTS.index("legal")
    assert lists.bits(["fever", "coughing", "bronchitis", "table"]) == [medical | legal, medical, medical, 0]
    assert lists.bits(["blood", "pressure"]) == [0, medical]
    assert lists.bits(["pressure", "blood"]) == [0, 0]
    assert lists.inside("我今天头痛得厉害") == [medical]
    assert lists.inside("a headache") == []


@pytest.mark.parametrize(
    ("text", "says"), [("poetry:\nrose", "unknown list 'poetry'"), ("rose", "'rose' stands outside any list")]
)
def test_a_bad_lexicon_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Lexicon(text)


def test_the_shipped_lexicon_fills_every_list() -> None:
    found = lexicon.shipped()
    for word, name in (("ibuprofen", "medical"), ("plaintiff", "legal"), ("etf", "finance"), ("haiku", "creative")):
        assert found.bits([word])[0] & (1 << LISTS.index(name))


def test_the_weights_are_those_that_the_digest_names() -> None:
    model = weights.load(weights.WEIGHTS, weights.DIGEST)
    assert model.table.shape == (BUCKETS, len(Task) + 1)
    assert model.dense.shape[0] == len(extract(judged("hello")).dense)
    assert weights.WEIGHTS.stat().st_size < 3_000_000


def test_changed_or_missing_weights_are_refused(tmp_path: Path) -> None:
    changed = tmp_path / "weights.npz"
    changed.write_bytes(weights.WEIGHTS.read_bytes()[:-1] + b"x")
    with pytest.raises(BadWeightsError, match="the content is not what"):
        weights.load(changed, weights.DIGEST)
    with pytest.raises(BadWeightsError, match=r"none\.npz"):
        weights.load(tmp_path / "none.npz", weights.DIGEST)


def test_no_hard_prompt_is_trained_on() -> None:
    def texts(path: Path) -> set[str]:
        return {" ".join(json.loads(line)["text"].lower().split()) for line in path.read_text("utf-8").splitlines()}

    own = texts(ROOT / "classifier" / "data" / "own_prompts.jsonl")
    assert not own & texts(ROOT / "tests" / "data" / "hard_prompts.jsonl")
    assert len(own) > 2_000
