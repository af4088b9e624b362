"""The Z-loss against log-softmax: what shift and scale do, and the words ranked first."""

import numpy as np
import torch

import lossary
from lossary.arena import Data, from_arrays
from lossary.claims import Claim, Computation, Generated, Training, higher, lower, top_accuracy

ROWS, WORDS, CONTEXT = 6000, 50, 10


def moved(seed: int) -> dict[str, dict[str, float]]:
    logits, target = torch.randn(1000, WORDS, dtype=torch.float64), torch.randint(WORDS, (1000,))

    measured = {}
    for name in ("z_loss", "cross_entropy"):
        objective = lossary.create(name)
        before, after = float(objective(logits, target)), float(objective(100 * logits + 7, target))
        measured[name] = {"change": abs(after - before) / before}
    return measured


def words(seed: int) -> Data:
    """The next word, given what is known of the context; words are as frequent as their rank says."""
    generator = np.random.default_rng(seed)
    context = generator.normal(size=(ROWS, CONTEXT))
    logits = context @ generator.normal(0.0, 0.5, (CONTEXT, WORDS)) - np.log(np.arange(1, WORDS + 1))
    target = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    return from_arrays(f"next of {WORDS} words", context, target, task="multiclass")


CLAIM = Claim(
    paper="z_loss",
    statement="The Z-loss does not change with the shift and the scale of the logits, and on the next of many words it ranks the"
    " right one among the first few more often than log-softmax does.",
    experiments=(
        Computation(
            title="logits times 100 plus 7",
            function=moved,
            rules=(lower("change", "z_loss", than=1e-6), higher("change", "cross_entropy", than=1.0)),
            seeds=20,
            description="The relative change of the loss of 1000 rows of 50 normal logits.",
        ),
        Training(
            title="the right word among the first five",
            data=Generated(words),
            arms={
                "z_loss": ("z_loss", *(f"z_loss(a={a}, b={b})" for a in (0.5, 2.0) for b in (0.0, 4.0))),
                "cross_entropy": "cross_entropy",
            },
            rules=(higher("top_5_accuracy", "z_loss", than="cross_entropy"),),
            epochs=20,
            batch_size=60,
            learning_rates=(3e-3, 1e-2),
            weight_decay=0.01,
            measures={"top_5_accuracy": top_accuracy(5)},
            select="accuracy",
            seeds=10,
        ),
    ),
    seconds=110,
    note="That training time need not depend on the number of words is the paper's other claim; it needs an output layer of its"
    " own, and is not measured.",
)
