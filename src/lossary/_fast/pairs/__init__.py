"""Losses of pairs of embeddings, without a matrix of all pairs."""
