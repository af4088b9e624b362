"""Independent yes-or-no labels: one file for each objective, one line here."""

from lossary.losses.multilabel.anyloss import AnyLoss as AnyLoss
from lossary.losses.multilabel.asymmetric import AsymmetricLoss as AsymmetricLoss
from lossary.losses.multilabel.batch_perceptron import BatchPerceptronLoss as BatchPerceptronLoss
from lossary.losses.multilabel.binary_cross_entropy import BinaryCrossEntropyLoss as BinaryCrossEntropyLoss
from lossary.losses.multilabel.ensloss import EnsLoss as EnsLoss
from lossary.losses.multilabel.ldam_multilabel import LdamMultilabelLoss as LdamMultilabelLoss
from lossary.losses.multilabel.normalized_logistic import NormalizedLogisticLoss as NormalizedLogisticLoss
from lossary.losses.multilabel.poly_focal import PolyFocalLoss as PolyFocalLoss
from lossary.losses.multilabel.proto_ecgnet import ProtoECGNetLoss as ProtoECGNetLoss
from lossary.losses.multilabel.sigmoid_focal import SigmoidFocalLoss as SigmoidFocalLoss
