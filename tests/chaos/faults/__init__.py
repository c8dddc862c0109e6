"""Faults of the network, made to order."""

from tests.chaos.faults.proxy import Direction, FaultProxy

__all__ = ["Direction", "FaultProxy"]
