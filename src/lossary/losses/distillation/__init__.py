"""Distillation: a student that learns from a teacher."""
