"""Independent yes-or-no labels: one file for each objective, one line here."""

from lossary.losses.multilabel.asymmetric import AsymmetricLoss as AsymmetricLoss
from lossary.losses.multilabel.binary_cross_entropy import BinaryCrossEntropyLoss as BinaryCrossEntropyLoss
from lossary.losses.multilabel.poly_focal import PolyFocalLoss as PolyFocalLoss
from lossary.losses.multilabel.sigmoid_focal import SigmoidFocalLoss as SigmoidFocalLoss
