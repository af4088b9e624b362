"""Rules for data: what a training loop does to targets and weights before a loss sees them."""

from lossary.data.bags import aggregate, private_aggregate
from lossary.data.dataset_equity import cluster_likelihood, dataset_equity_weight

__all__ = ["aggregate", "cluster_likelihood", "dataset_equity_weight", "private_aggregate"]
