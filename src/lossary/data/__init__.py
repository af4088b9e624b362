"""Rules for data: what a training loop does to targets before a loss sees them."""

from lossary.data.bags import aggregate, private_aggregate

__all__ = ["aggregate", "private_aggregate"]
