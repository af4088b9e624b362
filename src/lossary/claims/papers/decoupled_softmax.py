"""Two encoders for many labels: positives against negatives only, against the softmax in which they compete."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lossary import create
from lossary.arena import Data
from lossary.claims import Claim, Computation, Generated, fit, higher, label_rows, mlp, split_of

SEEDS, LABELS, TEMPERATURE = 12, 30, 0.05


def data(seed: int) -> Data:
    return label_rows(seed, rows=2000, labels=LABELS, each=8)


def competing(logits: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(logits / TEMPERATURE, target / target.sum(1, keepdim=True))


def precisions(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(Generated(data), seed, SEEDS)
    x, target = split.train.features, split.train.target
    described = (target.T @ x) / target.sum(0).unsqueeze(1)  # a label is known by the mean of its rows

    def trained(objective: Callable[[Tensor, Tensor], Tensor], two_encoders: bool) -> dict[str, float]:
        model = mlp(seed, 20, 128, 32 if two_encoders else LABELS)

        def scores(rows: Tensor) -> Tensor:
            out: Tensor = model(rows)
            return normalize(out) @ normalize(model(described)).T if two_encoders else out

        fit(
            model.parameters(),
            lambda batch: objective(scores(x[batch]), target[batch]),
            len(x),
            epochs=30,
            batch_size=50,
            seed=seed,
        )
        with torch.no_grad():
            order = np.argsort(-scores(split.test.features).numpy(), axis=1)
        hits = np.take_along_axis(split.test.truth, order, axis=1)
        return {f"precision_at_{k}": float(hits[:, :k].mean()) for k in (1, 5)}

    return {
        "decoupled_softmax": trained(create("decoupled_softmax", temperature=TEMPERATURE), True),
        "softmax": trained(competing, True),
        "classifier": trained(create("binary_cross_entropy"), False),
    }


CLAIM = Claim(
    paper="decoupled_softmax",
    statement="Where samples have several labels, two encoders rank the labels better if each positive is held against the"
    " negatives alone than in a softmax where positives compete, and then match a classifier with weights for each label.",
    experiments=(
        Computation(
            title="8 of 30 labels",
            function=precisions,
            rules=(
                higher("precision_at_1", "decoupled_softmax", than="softmax"),
                higher("precision_at_5", "decoupled_softmax", than="softmax"),
                higher("precision_at_1", "decoupled_softmax", than="classifier", by=-0.01),
            ),
            seeds=SEEDS,
            description="2000 rows made for each seed, a label described by the mean of its training rows; one encoder for both"
            " with a hidden layer of 128 and 32 outputs, temperature 0.05; the classifier has the same layer and cross-entropy for"
            " each label; 30 epochs in batches of 50, Adam at 0.003.",
        ),
    ),
    seconds=120,
    note="The paper has up to 1.3 million labels, described by texts, and pretrained encoders.",
)
