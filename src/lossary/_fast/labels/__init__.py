"""Losses of independent labels, each of which is yes or no."""
