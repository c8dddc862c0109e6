"""The prompts of the demo: task classes from chat to medicine, by two tenants."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of the tour; the router finds its task class itself."""

    tenant: str
    text: str
    max_tokens: int = 32


CAPITAL = Prompt("acme", "What is the capital of France?")

PROMPTS = (
    Prompt("acme", "Hello! How are you today?"),
    Prompt(
        "acme",
        'Is the sentiment of this review positive or negative? "I love this phone, the battery lasts for days."',
    ),
    Prompt(
        "acme",
        "Summarize in one sentence: The ferry leaves at seven every morning. In winter, storms often keep it in the "
        "harbour for days, and the island has to wait for bread and mail.",
    ),
    Prompt("acme", "Write a two-line poem about the sea."),
    CAPITAL,
    Prompt("acme", "Write a Python function that checks if a number is even.", max_tokens=40),
    Prompt("acme", "What is 2 + 2?"),
    Prompt("acme", "What is photosynthesis?"),
    Prompt("acme", "What is compound interest?"),
    Prompt("globex", "Hello! How are you today?"),
    Prompt("globex", "What is a fever?"),
)

# Two steps. A model of 135M parameters needs examples to take steps at all; this problem was picked from some dozens
# as one that it solves when nothing is rounded.
WORD_PROBLEM = "John has 2 boxes with 9 pens each. John gets 4 more pens. How many pens does John have?"
WORD_PROBLEM_ANSWER = "22"
WORD_PROBLEM_PROMPT = f"""\
Question: A box holds 6 eggs. Mia buys 2 boxes and breaks 3 eggs. How many eggs are left?
Answer: First, 2 boxes hold 2 * 6 = 12 eggs. Then 12 - 3 = 9 eggs are left. The answer is 9.

Question: Leo has 3 bags with 5 coins each. He finds 4 more coins. How many coins does he have?
Answer: First, 3 bags hold 3 * 5 = 15 coins. Then 15 + 4 = 19 coins. The answer is 19.

Question: {WORD_PROBLEM}
Answer:"""

# Long enough that a worker can die in the middle.
STORY = "Explain why it rains, in simple words."
STORY_TOKENS = 70
KILL_AFTER_TOKENS = 20
