"""Calibrators of a frozen classifier, to be trained with a post-hoc objective."""

from lossary.calibration.sample_temperature import SampleTemperature, top_probabilities

__all__ = ["SampleTemperature", "top_probabilities"]
