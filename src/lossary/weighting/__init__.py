"""Weights for samples."""

from lossary.weighting.dataset_equity import cluster_likelihood, dataset_equity_weight

__all__ = ["cluster_likelihood", "dataset_equity_weight"]
