"""Metrics that judge predictions, for any training loop.

>>> import torch
>>> from lossary.metrics import smooth_ece
>>> round(float(smooth_ece(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1, 1, 1, 0]))), 3)
0.15
"""

from lossary.metrics.smooth_ece import ReliabilityCurve, reliability_curve, smooth_ece, smooth_ece_from_logits

__all__ = ["ReliabilityCurve", "reliability_curve", "smooth_ece", "smooth_ece_from_logits"]
