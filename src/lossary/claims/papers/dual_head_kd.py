"""Labels and a teacher's logits on one head, on two, and alone."""

import torch
from torch import Tensor

from lossary.claims import TEST_SHARE, Claim, Computation, fit, higher, lower, mlp
from lossary.claims.papers._teacher import lesson
from lossary.functional import dual_head_kd
from lossary.nn import DualHead

SEEDS, UNITS = 20, 12


def students(seed: int) -> dict[str, dict[str, float]]:
    given = lesson(seed, SEEDS, 128, 20)
    measured = {}
    for name in ("dual", "single", "labels", "teacher"):
        backbone = mlp(seed, 64, 32, UNITS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = DualHead(UNITS, 10, nonlinear=True)

        def loss(batch: Tensor, name: str = name, backbone: torch.nn.Module = backbone, heads: torch.nn.Module = heads) -> Tensor:
            main, auxiliary = heads(backbone(given.images[batch]).relu())
            alpha, gamma = float(name != "labels"), float(name != "teacher")
            head = auxiliary if name == "dual" else None
            return dual_head_kd(main, given.logits[batch], given.target[batch], head, alpha=alpha, gamma=gamma)

        parameters = [*backbone.parameters(), *(heads.parameters() if name == "dual" else heads.main.parameters())]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # dropout of the auxiliary head
            fit(parameters, loss, len(given.target), epochs=20, batch_size=50, seed=seed)
        heads.eval()
        with torch.no_grad():
            main, _ = heads(backbone(given.tested).relu())
        measured[name] = {"accuracy": float((main.argmax(1) == given.truth).double().mean())}
    return measured


CLAIM = Claim(
    paper="dual_head_kd",
    statement="Labels and a teacher's logits disturb each other on one head, which is then worse than with either of them alone;"
    " with a head for each, the student is more accurate than with labels alone and than with both on one head.",
    experiments=(
        Computation(
            title="digits, a student of 12 units",
            function=students,
            rules=(
                lower("accuracy", "single", than="labels"),
                lower("accuracy", "single", than="teacher"),
                higher("accuracy", "dual", than="single"),
                higher("accuracy", "dual", than="labels"),
            ),
            seeds=SEEDS,
            description="A teacher of 128 hidden units; students with 32 and 12, temperature 2, both weights 1, the nonlinear"
            " auxiliary head, no alignment of gradients. 20 epochs in batches of 50 with Adam at 0.003.",
            shared=TEST_SHARE,
            resolution=1 / 360,
        ),
    ),
    seconds=100,
    note="The paper's networks are for CIFAR-100 and ImageNet, with many more classes.",
)
