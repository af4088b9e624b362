"""Outputs without an order of their own: sets, and orders to choose from."""

from lossary.losses.sets.order_search import OrderSearchLoss as OrderSearchLoss
from lossary.losses.sets.set_cross_entropy import SetCrossEntropyLoss as SetCrossEntropyLoss
