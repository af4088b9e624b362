"""Paired contrastive learning: two views of each sample, positives on the diagonal."""

from lossary.losses.contrastive.amcl import AMCLLoss as AMCLLoss
from lossary.losses.contrastive.byol import ByolLoss as ByolLoss
from lossary.losses.contrastive.clip import CLIPLoss as CLIPLoss
from lossary.losses.contrastive.cross_cosine_similarity import CrossCosineSimilarityLoss as CrossCosineSimilarityLoss
from lossary.losses.contrastive.cross_sigmoid_similarity import CrossSigmoidSimilarityLoss as CrossSigmoidSimilarityLoss
from lossary.losses.contrastive.dbpm import DBPMLoss as DBPMLoss
from lossary.losses.contrastive.give import GiveLoss as GiveLoss
from lossary.losses.contrastive.give_oid import GiveOIDLoss as GiveOIDLoss
from lossary.losses.contrastive.give_oiic import GiveOIICLoss as GiveOIICLoss
from lossary.losses.contrastive.give_oitc import GiveOITCLoss as GiveOITCLoss
from lossary.losses.contrastive.groco import GroCoLoss as GroCoLoss
from lossary.losses.contrastive.hard_contrastive import HardContrastiveLoss as HardContrastiveLoss
from lossary.losses.contrastive.info_nce import InfoNCELoss as InfoNCELoss
from lossary.losses.contrastive.isogclr import ISogCLRLoss as ISogCLRLoss
from lossary.losses.contrastive.siglip import SigLIPLoss as SigLIPLoss
from lossary.losses.contrastive.simple_contrastive import SimpleContrastiveLoss as SimpleContrastiveLoss
from lossary.losses.contrastive.univitar import UniViTARLoss as UniViTARLoss
from lossary.losses.contrastive.video_colbert import VideoColBERTLoss as VideoColBERTLoss
