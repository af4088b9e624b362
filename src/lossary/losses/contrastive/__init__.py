"""Paired contrastive learning: two views of each sample, positives on the diagonal."""

from lossary.losses.contrastive.byol import ByolLoss as ByolLoss
from lossary.losses.contrastive.cross_cosine_similarity import CrossCosineSimilarityLoss as CrossCosineSimilarityLoss
from lossary.losses.contrastive.cross_sigmoid_similarity import CrossSigmoidSimilarityLoss as CrossSigmoidSimilarityLoss
