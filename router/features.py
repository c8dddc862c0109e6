"""What is known about a request before it runs: size, task, the client's wishes."""

from bitlane.v1 import inference_pb2 as pb
from classifier import Classifier, Guess
from precision.decision import Features, PriorityClass, TaskSource
from precision.profile import Precision
from precision.tasks import Task
from router.language import guess_language

# A template wraps each turn in markers.
_TOKENS_A_TURN = 5
_EARLIER = 5  # messages that a follow-up may refer to, itself included


def extract_features(
    request: pb.GenerateRequest,
    classify: Classifier,
    ceiling: PriorityClass,
    prompt_tokens: int,
) -> Features:
    """Features of a valid request. The client's hint beats the classifier.

    Args:
        ceiling: the most urgent class that the tenant's requests run in; more urgent wishes are lowered to it.
        prompt_tokens: an estimate, or what is known, as in a replay.
    """
    turn = _last_user_turn(request)
    if request.task != pb.TASK_UNSPECIFIED:
        guess, source = Guess(Task(request.task), 1.0), TaskSource.HINT
    else:
        guess, source = classify(turn, _earlier_user_turns(request)), TaskSource.CLASSIFIER
    preference = request.precision.WhichOneof("preference")
    return Features(
        task=guess.task,
        task_source=source,
        task_confidence=guess.confidence,
        prompt_tokens=prompt_tokens,
        at_least=Precision(request.precision.at_least) if preference == "at_least" else None,
        pin=Precision(request.precision.pin) if preference == "pin" else None,
        risk=guess.risk,
        model=request.model,
        labels=request.labels,
        priority=max(ceiling, wanted_priority(request)),
        language=guess_language(turn),
    )


def wanted_priority(request: pb.GenerateRequest) -> PriorityClass:
    """What the client asks for. A greater number is less urgent."""
    return PriorityClass(request.priority or pb.PRIORITY_STANDARD)


def estimate_prompt_tokens(request: pb.GenerateRequest) -> int:
    """Tokens of the prompt without its tokenizer: four ASCII bytes a token, one other character a token.

    Within a fifth or so for European prose and above the truth for most scripts; the worker settles it to the truth.
    """
    if not request.messages:
        return _estimate(request.prompt)
    return sum(_estimate(message.content) + _TOKENS_A_TURN for message in request.messages)


def _estimate(text: str) -> int:
    if text.isascii():
        return len(text) // 4 + 1
    ascii_characters = sum(character.isascii() for character in text)
    return ascii_characters // 4 + (len(text) - ascii_characters) + 1


def _earlier_user_turns(request: pb.GenerateRequest) -> list[str]:
    """Only the last few: a bare follow-up refers to what was just said."""
    return [message.content for message in request.messages[-_EARLIER:-1] if message.role == pb.ROLE_USER]


def _last_user_turn(request: pb.GenerateRequest) -> str:
    return request.messages[-1].content if request.messages else request.prompt
