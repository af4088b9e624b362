"""One class of several: one file for each objective, one line here."""

from lossary.losses.classification.aldr_kl import AldrKlLoss as AldrKlLoss
from lossary.losses.classification.arcface import ArcFaceLoss as ArcFaceLoss
from lossary.losses.classification.asymmetric_single_label import AsymmetricSingleLabelLoss as AsymmetricSingleLabelLoss
from lossary.losses.classification.black_box_quadratic import BlackBoxQuadraticLoss as BlackBoxQuadraticLoss
from lossary.losses.classification.comp_sum import CompSumLoss as CompSumLoss
from lossary.losses.classification.correctness_aware import CorrectnessAwareLoss as CorrectnessAwareLoss
from lossary.losses.classification.cosface import CosFaceLoss as CosFaceLoss
from lossary.losses.classification.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from lossary.losses.classification.dataset_equity import DatasetEquityLoss as DatasetEquityLoss
from lossary.losses.classification.dco import DcoLoss as DcoLoss
from lossary.losses.classification.dual_focal import DualFocalLoss as DualFocalLoss
from lossary.losses.classification.fairness_regularized import FairnessRegularizedLoss as FairnessRegularizedLoss
from lossary.losses.classification.focal import FocalLoss as FocalLoss
from lossary.losses.classification.gumbel_optimized import GumbelOptimizedLoss as GumbelOptimizedLoss
from lossary.losses.classification.harmonic import HarmonicLoss as HarmonicLoss
from lossary.losses.classification.ldr_kl import LdrKlLoss as LdrKlLoss
from lossary.losses.classification.legendretron import LegendreTronLoss as LegendreTronLoss
from lossary.losses.classification.naive_bayes import NaiveBayesLoss as NaiveBayesLoss
from lossary.losses.classification.normalized_softmax import NormalizedSoftmaxLoss as NormalizedSoftmaxLoss
from lossary.losses.classification.polyloss import PolyLoss as PolyLoss
from lossary.losses.classification.sample_dice import SampleDiceLoss as SampleDiceLoss
from lossary.losses.classification.set_dice import SetDiceLoss as SetDiceLoss
from lossary.losses.classification.smooth_adversarial_comp_sum import SmoothAdversarialCompSumLoss as SmoothAdversarialCompSumLoss
from lossary.losses.classification.squentropy import SquentropyLoss as SquentropyLoss
from lossary.losses.classification.worst_group import WorstGroupLoss as WorstGroupLoss
from lossary.losses.classification.z_loss import ZLoss as ZLoss
