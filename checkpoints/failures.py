"""What this tool says when it cannot go on."""


class CheckpointProblem(Exception):
    """A checkpoint, a sample or a tool is not as it should be; the message names it and says what to do."""
