"""Every objective as a module, by family."""

from lossary.losses.bags import *
from lossary.losses.classification import *
from lossary.losses.contrastive import *
from lossary.losses.distillation import *
from lossary.losses.embedding import *
from lossary.losses.label_ranking import *
from lossary.losses.multilabel import *
from lossary.losses.ranking import *
from lossary.losses.regression import *
from lossary.losses.sets import *
