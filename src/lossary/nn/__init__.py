"""Layers, heads and calibrators: plain :class:`torch.nn.Module`."""

from lossary.nn.code_wise_attention import CodeWiseAttention
from lossary.nn.dual_head import DualHead
from lossary.nn.ema_target import EmaTarget
from lossary.nn.gradient_cache import GradientCache
from lossary.nn.multi_head_projector import MultiHeadProjector
from lossary.nn.nearest_prototype import NearestPrototype
from lossary.nn.sample_temperature import SampleTemperature, top_probabilities

__all__ = [
    "CodeWiseAttention",
    "DualHead",
    "EmaTarget",
    "GradientCache",
    "MultiHeadProjector",
    "NearestPrototype",
    "SampleTemperature",
    "top_probabilities",
]
