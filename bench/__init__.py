"""Measurements of speed and quality, run by hand: `python -m bench.<name>`. None fails on a time."""
