"""The kinds of units and the families of objectives, each named once; nothing here needs torch."""

# Each kind with the packages whose import registers its units, so that asking for one kind does not import the others.
KINDS: dict[str, tuple[str, ...]] = {
    "objective": ("lossary.losses",),
    "optimizer": ("lossary.optim",),
    "balancer": (),
    "schedule": (),
    "layer": ("lossary.nn",),  # heads too
    "regularizer": (),
    "compressor": (),
    "diagnostic": ("lossary.metrics",),  # metrics too
    "law": (),
    "data_rule": ("lossary.adversarial", "lossary.data", "lossary.experiments", "lossary.nn"),
    "continual_method": (),
    "unlearner": (),
    "experiment": ("lossary.experiments",),
    "recipe": (),
}
UNITS = tuple(kind for kind in KINDS if kind != "objective")

# Each family of objectives with the other names that it is asked for by.
FAMILIES: dict[str, tuple[str, ...]] = {
    "classification": (),
    "multilabel": ("binary", "multi_label"),
    "label_ranking": (),
    "bags": (),
    "segmentation": (),
    "classifiers": (),
    "embedding": ("metric", "metric_learning"),
    "contrastive": (),
    "ranking": (),
    "regression": (),
    "language": ("language_modelling",),
    "distillation": (),
    "sets": (),
    "survival": (),
    "preference": (),
    "diffusion": (),
    "physics": (),
}
