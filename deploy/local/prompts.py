"""The prompts of the demo: task classes from chat to medicine, by two tenants."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of the tour. `task` None: the router finds the class itself."""

    tenant: str
    text: str
    task: str | None = None
    max_tokens: int = 32


PROMPTS = (
    Prompt("acme", "Hello! How are you today?"),
    Prompt("acme", "What is the capital of France?"),
    Prompt("acme", "Write a short poem about the sea."),
    Prompt("acme", "Translate to French: Good morning, my friend."),
    Prompt("acme", "Summarize in one sentence: The cat sat on the mat all day because the sun was warm."),
    Prompt("acme", "What is 12 + 30?"),
    Prompt("acme", "Write a Python function that adds two numbers.", task="code"),
    Prompt("acme", "If all birds have feathers, and a robin is a bird, does a robin have feathers? Explain why."),
    Prompt("globex", "Hello! How are you today?"),
    Prompt("globex", "What are common symptoms of a cold?"),
)

# Two steps: FP8 keeps the chain of steps, FP4 loses it.
WORD_PROBLEM = "Tom has 3 boxes with 4 apples in each box. He eats 2 apples. How many apples are left?"
WORD_PROBLEM_TOKENS = 90

# Long enough that a worker can die in the middle.
STORY = "Explain why it rains, in simple words."
STORY_TOKENS = 70
KILL_AFTER_TOKENS = 20
