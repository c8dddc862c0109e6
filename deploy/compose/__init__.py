"""The stack in containers: what its one-shot services run."""
