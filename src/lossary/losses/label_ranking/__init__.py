"""Several right labels among many, to be ranked first: one file for each objective, one line here."""

from lossary.losses.label_ranking.decoupled_softmax import DecoupledSoftmaxLoss as DecoupledSoftmaxLoss
from lossary.losses.label_ranking.soft_topk import SoftTopkLoss as SoftTopkLoss
