"""Paired contrastive learning: two views of each sample, positives on the diagonal."""
