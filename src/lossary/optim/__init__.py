"""Optimizers: each is a :class:`torch.optim.Optimizer`, and takes the place of one by changing one line."""

from lossary.optim.dot import DistillationOrientedTrainer
from lossary.optim.normalized_sgd import NormalizedSGD
from lossary.optim.rescaled_sign_sgd import RescaledSignSGD
from lossary.optim.sign_sgd import SignSGD

__all__ = ["DistillationOrientedTrainer", "NormalizedSGD", "RescaledSignSGD", "SignSGD"]
