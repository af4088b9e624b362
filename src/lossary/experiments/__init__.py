"""Experiments of papers that can be run at once: each builds its own small data and returns what it measured."""

from lossary.experiments.heavy_tailed_imbalance import ImbalanceCourse, heavy_tailed_imbalance, heavy_tailed_labels
from lossary.experiments.large_step_logistic import LargeStepCourse, crowded_data, large_step_logistic
from lossary.experiments.linear_evaluation import LinearEvaluation, linear_evaluation

__all__ = [
    "ImbalanceCourse",
    "LargeStepCourse",
    "LinearEvaluation",
    "crowded_data",
    "heavy_tailed_imbalance",
    "heavy_tailed_labels",
    "large_step_logistic",
    "linear_evaluation",
]
