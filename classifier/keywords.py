"""The first classifier: marks of each task class, looked for in the prompt. Plain, and honest about what it is not sure of.

It stands in until a trained one takes its place behind the same seam (`classifier.Classifier`). What it does not
recognise gets a confidence below any sensible threshold, so that FP8 serves it.
"""

import re

from classifier import Guess
from precision.tasks import Task

_UNSURE = Guess(Task.GENERAL_INSTRUCTION, 0.3)
_LOOKED_AT = 8_000  # characters, half from each end: what is asked stands at the start or at the end

# In order: the domain wins over the form, and the sensitive wins over the harmless.
_MARKS: tuple[tuple[Task, float, str], ...] = (
    (
        Task.MEDICAL,
        0.9,
        r"\b(symptoms?|diagnos\w+|dos(e|age|ing)|prescri\w+|patients?|medications?|side effects?|pregnan\w+|vaccin\w+"
        r"|blood pressure|fever|ibuprofen|paracetamol|aspirin|insulin|antibiotics?|chest pain|doctor)\b",
    ),
    (
        Task.LEGAL,
        0.9,
        r"\b(contracts?|lawsuits?|liab(le|ility)|tenant'?s? rights|landlord|plaintiff|defendant|statut\w+|clauses?|sue[ds]?"
        r"|attorney|lawyers?|copyright|gdpr|legal(ly)?|illegal|non-compete|evict\w*|custody)\b",
    ),
    (
        Task.FINANCE,
        0.9,
        r"\b(mortgage|interest rates?|invest(ing|ments?|or)?|stocks?|bonds?|portfolio|tax(es|able)?|401\(?k\)?|dividends?"
        r"|balance sheet|ebitda|loans?|pension|retire(ment)?|shares)\b",
    ),
    (
        Task.CODE,
        0.9,
        r"```|\b(def|class|import|return|SELECT|function|const|public static)\b.*[(){};:]|\b(python|javascript|rust|sql|regex|c\+\+|java|golang|compile|stack trace|unit test|bug)\b",
    ),
    (
        Task.MATH,
        0.9,
        r"\d\s*[-+*/^=×÷]\s*\d|\\frac|\\sum|\bhow (many|much)\b.*\d|\d.*\bhow (many|much)\b|\d+\s*%|\b(solve|equation|integral|derivative|prove"
        r"|probability|square root|percent of|divided by|multiplied by|calculate|compute)\b",
    ),
    (
        Task.SCIENCE,
        0.85,
        r"\b(physics|chemistry|chemical|biology|molecul\w+|quantum|entropy|photosynthesis|mitosis|thermodynamic\w*|isotopes?"
        r"|enzymes?|genes?|dna|gravity|electrons?|evolution)\b",
    ),
    (
        Task.REASONING,
        0.85,
        r"\b(step by step|logically|if all|deduce|infer|puzzle|riddle|which of the following|therefore|who is (older|taller)"
        r"|(older|taller|faster) than|explain why|pros and cons|plan)\b",
    ),
    (Task.SUMMARIZATION, 0.85, r"\b(summari[sz]e|summary|tl;?dr|in (one|two|three) sentences?|key points|shorten)\b"),
    (
        Task.TRANSFORM,
        0.85,
        r"\b(translate|rewrite|rephrase|paraphrase|extract|convert|correct the (grammar|spelling)|reformat)\b",
    ),
    (Task.CLASSIFICATION, 0.85, r"\b(classify|categori[sz]e|sentiment|positive or negative|spam|label (this|the))\b"),
    (
        Task.CREATIVE_WRITING,
        0.85,
        r"\b(write|compose|tell|make up)\b.{0,40}\b(poem|story|haiku|song|limerick|tale|joke|slogan|lyrics|dialogue)\b",
    ),
    (
        Task.FACTUAL_QA,
        0.8,
        r"^\W*(who|what|when|where|which)\b.{0,120}\?|\b(capital of|population of|who (wrote|invented|painted|was))\b",
    ),
    (
        Task.CHAT,
        0.8,
        r"^\W*(hi|hello|hey|good (morning|evening|afternoon)|thanks?|thank you|how are you|how'?s it going|what'?s up)\b",
    ),
    (
        Task.GENERAL_INSTRUCTION,
        0.75,
        r"^\W*(give|list|suggest|recommend|name|describe|write|draft|create|propose|help)\b",
    ),
)
_COMPILED = tuple((task, confidence, re.compile(marks, re.IGNORECASE)) for task, confidence, marks in _MARKS)


def classify(text: str) -> Guess:
    """The task class of a prompt (the last user turn). Never raises."""
    if len(text) > _LOOKED_AT:
        text = text[: _LOOKED_AT // 2] + "\n" + text[-_LOOKED_AT // 2 :]
    if not text.isascii() and sum(c.isascii() for c in text) < 0.8 * len(text):
        return _UNSURE  # the marks are English
    for task, confidence, marks in _COMPILED:
        if marks.search(text):
            return Guess(task, confidence)
    return _UNSURE
