"""What is judged of a prompt: the last user turn, without what it claims about itself, cut to a bounded length."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from classifier.claims import without_claims

JUDGED_CHARACTERS = 4_000  # half from each end: what is asked stands at the start or at the end
_WINDOW = 16_000  # characters of a transcript's end in which its turns are looked for
_FOLLOW_UP_CHARACTERS = 90

_SPEAKER = re.compile(r"\n[ \t]*(?:(user|human)|(assistant|ai|bot|chatgpt|system))[ \t]*:[ \t]*", re.IGNORECASE)
# How a last turn begins that means nothing without the turn before it.
_FOLLOW_UP = re.compile(
    r"\W*(?:and|or|but|so which|so what|what about|how about|what if|then|also|same|the same|another|one more"
    r"|now (?:the same|in|for|with)|why(?: not)?\W*$|how so|make (?:it|that)|something|an? (?:shorter|longer)|again"
    r"|instead|shorter|longer|in (?:rust|python|java|go)\b|which one|which of|(?:is|does|can) (?:it|that|this)"
    r"|when was (?:he|she|it)|where (?:was|is) (?:he|she|it)"
    r"|y |¿y |und |et |e |ou |oder |was ist mit|那|那么|还有|では|じゃあ|और)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the features are taken from."""

    text: str  # at most about JUDGED_CHARACTERS
    characters: int  # of the whole last turn


def judged(text: str, earlier: Sequence[str] = ()) -> Prompt:
    """Finds what is asked.

    Args:
        text: the last user turn; or a transcript in which lines begin with "User:" and "Assistant:".
        earlier: the user's turns before it, oldest first. Only a bare follow-up ("and for children?") looks at them.
    """
    turn, said = _last_turn(text)
    before = [*earlier, *said]
    whole = _cut(turn.strip(), JUDGED_CHARACTERS)
    characters = len(turn) - len(whole)
    turn = without_claims(whole).lstrip()
    characters += len(turn)
    if before and len(turn) <= _FOLLOW_UP_CHARACTERS and _FOLLOW_UP.match(turn):
        turn = _cut(before[-1], JUDGED_CHARACTERS // 4) + "\n" + turn
    return Prompt(turn, characters)


def _last_turn(text: str) -> tuple[str, list[str]]:
    """The last user turn of a transcript and the user's turns before it; the text itself if it is no transcript."""
    window = "\n" + text[-_WINDOW:]  # every line begins with one: a pattern that does is found fast
    marks = list(_SPEAKER.finditer(window))
    if not any(mark.group(1) for mark in marks):
        return text, []
    if len(text) <= _WINDOW and window[: marks[0].start()].strip():
        return text, []  # a text that quotes a conversation, such as "Summarize: User: ..."
    ends = [mark.start() for mark in marks[1:]] + [len(window)]
    turns = [window[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True) if mark.group(1)]
    turns = [turn for turn in turns if turn]
    return (turns[-1], turns[:-1]) if turns else (text, [])


def _cut(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    return text[: characters // 2] + "\n" + text[-characters // 2 :]
