"""Metric learning: embeddings of one class near each other, those of different classes apart."""

from lossary.losses.embedding.angular import AngularLoss
from lossary.losses.embedding.batch_hard_triplet import BatchHardTripletLoss
from lossary.losses.embedding.circle import CircleLoss
from lossary.losses.embedding.contrastive_pairs import ContrastiveLoss
from lossary.losses.embedding.generalized_lifted_structure import GeneralizedLiftedStructureLoss
from lossary.losses.embedding.icnn import ICNNLoss
from lossary.losses.embedding.lifted_structure import LiftedStructureLoss
from lossary.losses.embedding.margin import MarginLoss
from lossary.losses.embedding.metrix import MetrixLoss
from lossary.losses.embedding.multi_similarity import MultiSimilarityLoss
from lossary.losses.embedding.nt_xent import NTXentLoss
from lossary.losses.embedding.proto_triplet import ProtoTripletLoss
from lossary.losses.embedding.semi_hard_triplet import SemiHardTripletLoss
from lossary.losses.embedding.sup_con import SupConLoss
from lossary.losses.embedding.threshold_consistent_margin import ThresholdConsistentMarginLoss
from lossary.losses.embedding.triplet import TripletLoss
