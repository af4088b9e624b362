"""Sigmoid contrast with a frozen teacher's features beside it, early in training."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from lossary.claims import TEST_SHARE, Claim, Computation, fit, higher, mlp
from lossary.claims.papers._halves import halves, recall_at
from lossary.losses import UniViTARLoss

SEEDS, EPOCHS, TEACHER = 8, 8, 64


def early(seed: int) -> dict[str, dict[str, float]]:
    split, (left, right), (test_left, test_right) = halves(seed, SEEDS)
    teacher = mlp(seed + 2000, 64, TEACHER, 10)
    x, y = split.train.features, split.train.target
    fit(teacher.parameters(), lambda rows: cross_entropy(teacher(x[rows]), y[rows]), len(x), epochs=20, batch_size=64, seed=seed)
    teach = teacher[:3].requires_grad_(False)

    found = {}
    for arm in ("univitar", "siglip"):
        body, head, b = mlp(seed, 32, 128, 64), mlp(seed + 500, 64, 32), mlp(seed + 1000, 32, 128, 32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loss = UniViTARLoss(distill_weight=1.0 if arm == "univitar" else 0.0, student_dim=64, teacher_dim=TEACHER)

        def value(rows: Tensor, body: nn.Module = body, head: nn.Module = head, b: nn.Module = b, loss: nn.Module = loss) -> Tensor:
            features = body(left[rows])
            return loss(head(features), b(right[rows]), student=features, teacher=teach(x[rows]))  # type: ignore[no-any-return]

        parameters = [p for module in (body, head, b, loss) for p in module.parameters()]
        fit(parameters, value, len(left), epochs=EPOCHS, batch_size=128, seed=seed)
        project = loss.projector or nn.Identity()
        with torch.no_grad():
            features = body(test_left)
            found[arm] = {
                "recall_at_10": recall_at(10, head(features), b(test_right)),
                "cosine_with_the_teacher": float(cosine_similarity(project(features), teach(split.test.features)).mean()),
            }
    return found


CLAIM = Claim(
    paper="univitar",
    statement="A frozen teacher's features beside the sigmoid contrast turn the student's features to them and speed up the start"
    " of training: after few steps more of the right partners are found.",
    experiments=(
        Computation(
            title="eight epochs of digits",
            function=early,
            rules=(
                higher("cosine_with_the_teacher", "univitar", than="siglip", by=0.3),
                higher("recall_at_10", "univitar", than="siglip"),
            ),
            seeds=SEEDS,
            shared=TEST_SHARE,
            description="The left half of a digit has to find its right half; the teacher is a classifier of whole digits with a"
            " hidden layer of 64, trained before. Hidden layers of 128, outputs of 32, batches of 128, Adam at 0.003.",
        ),
    ),
    seconds=20,
    note="The paper trains vision transformers of up to a billion parameters; its architecture and resolution curriculum are not"
    " looked at.",
)
