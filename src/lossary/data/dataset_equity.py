"""Weights for samples by how common their appearance is."""

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.extras import require
from lossary._core.parameters import NonNegative, Positive, PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@unit(kind="data_rule")
@checked("dataset_equity_weight")
def dataset_equity_weight(likelihood: Tensor, eta: NonNegative = 1.0, gamma: NonNegative = 5.0) -> Tensor:
    r"""A weight for each sample that falls with how common its appearance is.

    .. math:: w(p) = \frac{\eta + (1 - p)^\gamma}{\eta + 1}

    A sample that looks like no other weighs 1, one of a common appearance down to eta / (1 + eta); with eta = 0 a cluster that is
    the whole data set is lost. Multiply any per-sample loss by it, or use ``dataset_equity``.

    Args:
        likelihood: the share p of the data that looks like the sample.
        eta: how much of the weight does not depend on the likelihood.
        gamma: how fast the rest falls.
    Shape: likelihood of any shape, in [0, 1]; the result has its shape.
    Units: between eta / (1 + eta) and 1.
    Errors: a likelihood that is not floating point, or a parameter outside its range, is a ``LossaryError``.
    Source: Shrivastava and others, "DatasetEquity: Are All Samples Created Equal? In The Quest For Equity Within Datasets", 2023.

    >>> dataset_equity_weight(torch.tensor([0.0, 0.5, 1.0]))
    tensor([1.0000, 0.5156, 0.5000])
    """
    check_floating("dataset_equity_weight", "likelihood", likelihood)
    rest = (1 - likelihood).clamp_min(0.0)  # of a share that rounding took above 1 no fractional power is a number
    return (eta + rest.pow(gamma)) / (eta + 1)


@unit(kind="data_rule")
@checked("cluster_likelihood")
def cluster_likelihood(
    features: Tensor | None, labels: Tensor | None = None, *, radius: Positive | None = None, min_samples: PositiveCount = 5
) -> Tensor:
    r"""How common the appearance of each sample is: the share of the data in its cluster.

    .. math:: p_i = \frac1N \sum_j [c_j = c_i]

    Without ``labels`` the features are clustered by DBSCAN. What belongs to no cluster (label -1) looks like nothing else: its
    share is that of one sample. Keep the result with the data rather than the recipe, as features and clusters change with
    versions and seeds.

    Args:
        features: a description of each sample, such as deep features of its image; not looked at where labels are given.
        labels: the cluster of each sample, from wherever it comes; negative for none.
        radius: how near samples are neighbours; without one, the distance within which nine of ten samples have ``min_samples``
            others.
        min_samples: how many neighbours make a sample part of a dense region.
    Shape: features (N, D), labels (N,) integers; the result is (N,).
    Units: a share of the data, in (0, 1].
    Errors: a shape or dtype other than these, or neither features nor labels, is a ``LossaryError``.
    Source: Shrivastava and others, "DatasetEquity: Are All Samples Created Equal? In The Quest For Equity Within Datasets", 2023.
        Whether the share is of the data or of the largest cluster is not certain; it is that of the data here.

    >>> cluster_likelihood(None, torch.tensor([0, 0, 0, 1, -1]))
    tensor([0.6000, 0.6000, 0.6000, 0.2000, 0.2000])
    """
    if labels is None:
        if features is None:
            raise InvalidValueError("cluster_likelihood: features or labels must be given, got neither")
        check_floating("cluster_likelihood", "features", features)
        if features.ndim != 2:
            raise InvalidValueError(f"cluster_likelihood: features must have shape (N, D), got {shape_text(tuple(features.shape))}")
        labels = _clusters(features, radius, min_samples)
    check_tensor("cluster_likelihood", "labels", labels)
    check_shape("cluster_likelihood", "labels", labels, (labels.numel(),))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidTypeError(f"cluster_likelihood: labels must be integers, got {labels.dtype}")
    labels = labels.long()
    _, place, sizes = labels.unique(return_inverse=True, return_counts=True)
    sizes = torch.where(labels < 0, torch.ones_like(labels), sizes[place])
    return sizes / max(len(labels), 1)


def _clusters(features: Tensor, radius: float | None, min_samples: int) -> Tensor:
    require("cluster_likelihood", "sklearn")
    import numpy as np
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import NearestNeighbors

    values = features.detach().cpu().double().numpy()
    if len(values) <= min_samples:  # too few for any dense region
        return torch.full((len(values),), -1, device=features.device)
    if radius is None:
        distances, _ = NearestNeighbors(n_neighbors=min_samples + 1).fit(values).kneighbors(values)
        radius = max(float(np.quantile(distances[:, -1], 0.9)), 1e-12)
    found = DBSCAN(eps=radius, min_samples=min_samples).fit_predict(values)
    return torch.as_tensor(found, dtype=torch.int64, device=features.device)
