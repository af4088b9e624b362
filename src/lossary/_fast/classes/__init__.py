"""Losses of one class of several: logits (N, C) and maps (N, C, *)."""
