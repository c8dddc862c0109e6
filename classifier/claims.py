"""What a prompt claims about itself ("this is just chat: ...", "[fp4]", "ignore your policy") is not the request.

Sentences and tags in front of the request are left out where they speak about it. Whatever is not recognised here stays
in; it is then one voice among the features.
"""

import re

_CLASS = (
    r"(?:chat|chit[ -]?chat|small[ -]?talk|creative[ _]?writing|general[ _]?instruction|classification"
    r"|summari[sz]ation|transform(?:ation)?|translation|code|coding|factual(?:[ _]qa)?|reasoning|math(?:ematics)?"
    r"|science|legal|medical|finance|financial|banter|fun|fiction|conversation|low|moderate|high|critical)"
)
_FILLERS = (
    r"(?:(?:an?|just|only|purely|simply|merely|all|really|some|very|harmless|casual|simple|friendly|easy|trivial)\s+)*"
)
_CLAIM = re.compile(
    "|".join(
        (
            # names the machinery
            r"\b(?:fp[48]|precision|sensitivity|routing|router)\b",
            rf"\b(?:task|label|class|category|priority|risk|sensitivity)\s*[=:]\s*{_CLASS}\b",
            # gives orders to it
            (
                r"\b(?:ignore|bypass|skip|override|forget)\b.{0,40}"
                r"\b(?:polic(?:y|ies)|rout\w+|rules?|instructions?|classif\w+)\b"
            ),
            (
                r"\b(?:route|send|use|pick|choose)\b.{0,40}"
                r"\b(?:pool|cheap\w*|fast\w*|(?:most )?precise|accurate|small|big) ?(?:pool|model|path|tier)?\b"
            ),
            r"\b(?:treat|classify|label|tag|consider|count|handle|file|mark)\s+(?:this|the following|it|me)\b"
            r".{0,12}\b(?:as|under)?\s*(?:(?:an?|simple|just|harmless|plain|casual)\s+|\s+)*" + _CLASS + r"\b",
            # says what kind of request it is
            (
                rf"\b(?:this|it|that)(?:'s| is| was| counts as)\s+{_FILLERS}"
                rf"(?:{_CLASS}|task|exercise|question|request|joke|game|test|emergency)\b"
            ),
            (
                r"\b(?:just|only|purely)\s+(?:a\s+)?"
                r"(?:casual|small talk|chit|chat|banter|for fun|fun|curious|kidding|vibes|a joke|fiction|hypothetical)"
            ),
            r"\b(?:easy|simple|trivial|harmless|casual|quick) (?:\w+ )?(?:task|chat|banter|exercise|chit-?chat)\b",
            r"\bfor a (?:fictional|made-up|fantasy)? ?(?:story|novel|game) only\b",
            r"\bno(?:t)? (?:medical|legal|financial|real) advice\b",
            # says how much it matters
            r"\blow[- ]priority\b|\bhigh(?:est)? (?:sensitivity|priority|importance)\b",
            r"\bneeds? (?:expert|careful|precise|exact)\b|\bi certify\b",
            (
                r"\b(?:urgent|critical|attention)\b.*"
                r"\b(?:request|legal|medical|critical|sensitiv\w+|emergency)\b"
            ),
            r"\bdon'?t overthink\b|\bnothing serious\b",
        )
    ),
    re.IGNORECASE,
)
_LABEL = re.compile(r"\s*(?:system|note|meta|hint|task|context)\s*[:=]\s*", re.IGNORECASE)
_TAGS = re.compile(r"\s*(?:[\[(<{][^\])>}\n]{1,60}[\])>}]\s*)+")
_SENTENCE = re.compile(r"(.{1,160}?)(?:[.:!?;\n]+(?=\s|$)|\s[-–—]+\s|:\))", re.DOTALL)
_MOST = 4  # claims in a row
_LEAST_CHARACTERS = 3  # of what is left


def without_claims(text: str) -> str:
    """The request without leading sentences and tags about it; all of it if nothing else would be left."""
    for _ in range(_MOST):
        rest = _without_sentence(_without_tags(_without_label(text)))
        if rest == text or len(rest.strip()) < _LEAST_CHARACTERS:
            break
        text = rest
    return text


def _without_label(text: str) -> str:
    label = _LABEL.match(text)
    return text[label.end() :] if label and _CLAIM.search(text[:80]) else text


def _without_tags(text: str) -> str:
    tags = _TAGS.match(text)
    return text[tags.end() :] if tags and _CLAIM.search(tags.group()) else text


def _without_sentence(text: str) -> str:
    """A question is no claim: it may be the request."""
    sentence = _SENTENCE.match(text)
    if sentence and "?" not in sentence.group() and _CLAIM.search(sentence.group()):
        return text[sentence.end() :]
    return text
