"""Sets of tokens against single vectors, and two sigmoid losses against one of the summed score."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lossary import functional
from lossary.claims import Claim, Computation, fit, higher
from lossary.claims.papers._halves import recall_at
from lossary.losses import SigLIPLoss, VideoColBERTLoss

SEEDS, TOKENS, ASKED, WIDTH = 6, 6, 3, 8


def made(seed: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, frames, and frames that have seen their neighbours."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(99))).Q
    content = torch.randn(rows, TOKENS, WIDTH, generator=generator)
    frames = content + 0.3 * torch.randn(content.shape, generator=generator)
    asked = torch.rand(rows, TOKENS, generator=generator).argsort(1)[:, :ASKED]
    query = content.gather(1, asked.unsqueeze(2).expand(-1, -1, WIDTH)) @ turn
    return query + 0.3 * torch.randn(query.shape, generator=generator), frames, (frames + 0.5 * frames.roll(1, 1)) / 1.5


class Encoders(nn.Module):
    """One linear layer for each kind of token."""

    def __init__(self, seed: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.each = nn.ModuleList(nn.Linear(WIDTH, 16) for _ in range(3))

    def forward(self, *tokens: Tensor) -> list[Tensor]:
        return [encode(x) for encode, x in zip(self.each, tokens, strict=True)]


def recalls(seed: int) -> dict[str, dict[str, float]]:
    train, test = made(seed, 512), made(10_000 + seed, 256)
    found = {}
    for arm in ("video_colbert", "one loss of the sum", "one vector each"):
        model = Encoders(seed)
        loss = SigLIPLoss() if arm == "one vector each" else VideoColBERTLoss()

        def value(rows: Tensor, arm: str = arm, model: Encoders = model, loss: SigLIPLoss | VideoColBERTLoss = loss) -> Tensor:
            q, f, v = model(*(x[rows] for x in train))
            if arm == "video_colbert":
                joint: Tensor = loss(q, f, v)
                return joint
            if arm == "one vector each":
                apart: Tensor = loss(q.mean(1), f.mean(1)) + loss(q.mean(1), v.mean(1))
                return apart
            both = functional.mean_max_sim(q, f) + functional.mean_max_sim(q, v)
            z = loss.log_scale.exp() * both + loss.bias
            return -logsigmoid((2 * torch.eye(len(z)) - 1) * z).sum() / len(z)

        fit([*model.parameters(), *loss.parameters()], value, 512, epochs=25, batch_size=64, seed=seed)
        with torch.no_grad():
            q, f, v = model(*test)
            if arm == "one vector each":
                recall = recall_at(1, *(torch.cat(pair, 1) for pair in ((unit(q), unit(q)), (unit(f), unit(v)))))
            else:
                scores = functional.mean_max_sim(q, f) + functional.mean_max_sim(q, v)
                recall = float((scores.argmax(1) == torch.arange(len(scores))).float().mean())
        found[arm] = {"recall_at_1": recall}
    return found


def unit(tokens: Tensor) -> Tensor:
    return nn.functional.normalize(tokens.mean(1))


CLAIM = Claim(
    paper="video_colbert",
    statement="Late interaction of a query's tokens with frames and with the video retrieves better than one vector for each, and"
    " two sigmoid losses, one for each, train it better than one loss of the summed score.",
    experiments=(
        Computation(
            title="three of six tokens, turned",
            function=recalls,
            rules=(
                higher("recall_at_1", "video_colbert", than="one vector each", by=0.1),
                higher("recall_at_1", "video_colbert", than="one loss of the sum"),
            ),
            seeds=SEEDS,
            description="A video has six random tokens of width 8 and noise, of which a query has three, turned, with noise;"
            " video features are frames mixed with their neighbours. Linear encoders to width 16, 512 pairs, 25 epochs in batches"
            " of 64, Adam at 0.003; 256 new pairs to retrieve.",
        ),
    ),
    seconds=30,
    note="The paper fine-tunes CLIP and SigLIP on five collections of videos with captions.",
)
