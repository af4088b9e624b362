"""Distillation: a student that learns from a teacher."""

from lossary.losses.distillation.dual_head_kd import DualHeadKDLoss as DualHeadKDLoss
from lossary.losses.distillation.knowledge_distillation import KnowledgeDistillationLoss as KnowledgeDistillationLoss
from lossary.losses.distillation.nd import NDLoss as NDLoss
