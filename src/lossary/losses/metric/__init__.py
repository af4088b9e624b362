"""Metric learning: embeddings of one class near each other, those of different classes apart."""
