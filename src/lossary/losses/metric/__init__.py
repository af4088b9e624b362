"""Metric learning: embeddings of one class near each other, those of different classes apart."""

from lossary.losses.metric.angular import AngularLoss
from lossary.losses.metric.batch_hard_triplet import BatchHardTripletLoss
from lossary.losses.metric.circle import CircleLoss
from lossary.losses.metric.contrastive_pairs import ContrastiveLoss
from lossary.losses.metric.generalized_lifted_structure import GeneralizedLiftedStructureLoss
from lossary.losses.metric.icnn import ICNNLoss
from lossary.losses.metric.lifted_structure import LiftedStructureLoss
from lossary.losses.metric.margin import MarginLoss
from lossary.losses.metric.metrix import MetrixLoss
from lossary.losses.metric.multi_similarity import MultiSimilarityLoss
from lossary.losses.metric.nt_xent import NTXentLoss
from lossary.losses.metric.proto_triplet import ProtoTripletLoss
from lossary.losses.metric.semi_hard_triplet import SemiHardTripletLoss
from lossary.losses.metric.sup_con import SupConLoss
from lossary.losses.metric.threshold_consistent_margin import ThresholdConsistentMarginLoss
from lossary.losses.metric.triplet import TripletLoss
