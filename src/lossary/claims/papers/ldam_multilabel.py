"""Margins for rare labels, and an attention for each label, against the plain loss and the mean over all words."""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lossary.arena import Data
from lossary.claims import Claim, Computation, Generated, Training, fit, higher, label_rows
from lossary.nn import CodeWiseAttention

ROWS, LABELS, WORDS, LENGTH, WIDTH = 2000, 30, 200, 20, 32


def data(seed: int) -> Data:
    return label_rows(seed, rows=ROWS, labels=LABELS, each=2)


class Attending(nn.Module):
    """Embedded words with an attention for each label."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), CodeWiseAttention(WIDTH, LABELS)

    def forward(self, text: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words(text))[0]
        return logits


def texts(seed: int) -> dict[str, dict[str, float]]:
    generator = np.random.default_rng(seed)
    target = torch.from_numpy(data(seed).target).float()
    own = generator.integers(0, WORDS, (LABELS, 3))  # the words that speak for a label; labels may share them
    text = generator.integers(0, WORDS, (ROWS, LENGTH))
    for row, labels in zip(text, target.numpy(), strict=True):
        said = np.concatenate([generator.choice(own[label], 2) for label in np.flatnonzero(labels)])
        row[generator.permutation(LENGTH)[: len(said)]] = said
    read, train = torch.from_numpy(text), ROWS * 3 // 5

    def area(model: nn.Module) -> dict[str, float]:
        def loss(batch: Tensor) -> Tensor:
            return binary_cross_entropy_with_logits(model(read[batch]), target[batch])

        fit(model.parameters(), loss, train, epochs=20, batch_size=50, seed=seed)
        return {"micro_auc": roc_auc_score(target[train:], model(read[train:]).detach(), average="micro")}

    mean = nn.Sequential(nn.EmbeddingBag(WORDS, WIDTH, mode="mean"), nn.Linear(WIDTH, LABELS))
    return {"attention": area(Attending()), "mean": area(mean)}


ARMS = ("ldam_multilabel", "binary_cross_entropy")
BETTER = (higher("f1_macro", ARMS[0], than=ARMS[1]), higher("f1_micro", ARMS[0], than=ARMS[1]))
TEXT = (
    "1,200 made texts to learn from and 800 to test on, of 20 of 200 words, four of which speak for its 2 of 30 labels; embeddings"
    " of 32, cross-entropy, 20 epochs in batches of 50, Adam at 0.003; attention for each label against one mean for all."
)
CLAIM = Claim(
    paper="ldam_multilabel",
    statement="With many rare labels, larger margins for rarer ones find more of them than binary cross-entropy does (F1); and"
    " where few words of a text tell, an attention for each label ranks labels better than the mean over all words.",
    experiments=(
        Training("rare labels", Generated(data), ARMS, BETTER, epochs=40, batch_size=50),
        Computation("few words that tell", texts, (higher("micro_auc", "attention", than="mean"),), 10, TEXT),
    ),
    seconds=90,
    note="The paper assigns diagnoses to clinical notes with a transformer, whose data are not public; data are made here.",
)
