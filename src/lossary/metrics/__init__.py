"""Metrics that judge predictions, for any training loop.

>>> import torch
>>> from lossary.metrics import smooth_ece
>>> round(float(smooth_ece(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1, 1, 1, 0]))), 3)
0.15
"""

from lossary.metrics.black_box import black_box_cross_entropy, black_box_quadratic
from lossary.metrics.hardness_weights import hardness_weights
from lossary.metrics.icnn_score import icnn_score
from lossary.metrics.mean_average_precision_at_r import mean_average_precision_at_r
from lossary.metrics.mean_reciprocal_rank import mean_reciprocal_rank
from lossary.metrics.ndcg_at_k import ndcg_at_k
from lossary.metrics.opis import epsilon_opis, opis
from lossary.metrics.pass_at_n import pass_at_n, pass_at_n_from_counts
from lossary.metrics.recall_at_k import recall_at_k
from lossary.metrics.simpson_bias import simpson_bias
from lossary.metrics.smooth_ece import ReliabilityCurve, reliability_curve, smooth_ece, smooth_ece_from_logits
from lossary.metrics.tolerance import tolerance
from lossary.metrics.uniformity import uniformity
from lossary.metrics.utilization import utilization

__all__ = [
    "ReliabilityCurve",
    "black_box_cross_entropy",
    "black_box_quadratic",
    "epsilon_opis",
    "hardness_weights",
    "icnn_score",
    "mean_average_precision_at_r",
    "mean_reciprocal_rank",
    "ndcg_at_k",
    "opis",
    "pass_at_n",
    "pass_at_n_from_counts",
    "recall_at_k",
    "reliability_curve",
    "simpson_bias",
    "smooth_ece",
    "smooth_ece_from_logits",
    "tolerance",
    "uniformity",
    "utilization",
]
