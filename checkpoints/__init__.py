"""Checkpoints: what they are in, how to quantize them, and how much that costs. `python -m checkpoints`."""
