"""Layers and heads: plain :class:`torch.nn.Module`."""

from lossary.nn.code_wise_attention import CodeWiseAttention

__all__ = ["CodeWiseAttention"]
