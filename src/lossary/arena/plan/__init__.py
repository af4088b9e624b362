"""Decisions before training: candidates, protocol, tuning."""
