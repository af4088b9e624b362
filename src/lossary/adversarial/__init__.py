"""Adversarial inputs, for objectives that want the outputs at them."""

from lossary.adversarial.pgd import pgd

__all__ = ["pgd"]
