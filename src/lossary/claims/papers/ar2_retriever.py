"""A retriever and a ranker trained against each other, beside a retriever with negatives that stay or are found anew."""

import torch
from torch import Tensor, nn

import lossary
from lossary.claims import Claim, Computation, higher, mlp

DOCUMENTS, QUERIES, FEATURES, WIDTH = 400, 800, 20, 12
NEGATIVES, BATCH, TURN, TURNS = 20, 40, 40, 8  # steps of one, then of the other, then new negatives, as the authors' program


def world(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Documents, training queries, test queries, and the document that either asks for."""
    generator = torch.Generator().manual_seed(seed)
    documents = torch.randn(DOCUMENTS, FEATURES, generator=generator)
    mixing = torch.randn(FEATURES, FEATURES, generator=generator) / FEATURES**0.5
    wanted = torch.arange(QUERIES) % DOCUMENTS

    def ask() -> Tensor:
        return torch.tanh(documents[wanted] @ mixing) + 0.4 * torch.randn(QUERIES, FEATURES, generator=generator)

    return documents, ask(), ask(), wanted


class Towers(nn.Module):
    """A linear tower for queries and one for documents."""

    def __init__(self, seed: int):
        super().__init__()
        self.query, self.document = mlp(seed, FEATURES, WIDTH), mlp(seed + 1, FEATURES, WIDTH)

    def forward(self, queries: Tensor, documents: Tensor) -> Tensor:
        """Scores (N, K) for documents (K, features) or (N, K, features)."""
        towers = self.document(documents.reshape(-1, FEATURES)).view(*documents.shape[:-1], WIDTH)
        scores: Tensor = (self.query(queries).unsqueeze(1) * towers).sum(2)
        return scores


def candidates(towers: Towers, queries: Tensor, documents: Tensor, wanted: Tensor) -> Tensor:
    """The wanted document, then those that the retriever puts highest among the others."""
    with torch.no_grad():
        scores = towers.query(queries) @ towers.document(documents).T
    scores[torch.arange(len(queries)), wanted] = -torch.inf
    return torch.cat([wanted.unsqueeze(1), scores.topk(NEGATIVES, 1).indices], 1)


def recall(towers: Towers, queries: Tensor, documents: Tensor, wanted: Tensor) -> float:
    with torch.no_grad():
        scores = towers.query(queries) @ towers.document(documents).T
    return float((scores.topk(5, 1).indices == wanted.unsqueeze(1)).any(1).float().mean())


def retrieved(arm: str, seed: int) -> float:
    documents, queries, test, wanted = world(seed)
    towers, ranker = Towers(seed), mlp(seed + 2, 3 * FEATURES, 64, 1)
    of_ranker, of_retriever = lossary.create("ar2_ranker"), lossary.create("ar2_retriever")
    optimizers = [torch.optim.Adam(model.parameters(), lr=3e-3) for model in (towers, ranker)]
    generator = torch.Generator().manual_seed(seed)
    places = candidates(towers, queries, documents, wanted)

    def judged(batch: Tensor, shown: Tensor) -> Tensor:
        asked = queries[batch].unsqueeze(1).expand_as(shown)
        scores: Tensor = ranker(torch.cat([asked, shown, asked * shown], 2).flatten(0, 1)).view(shown.shape[:2])
        return scores

    for step in range(2 * TURN * TURNS):
        if step % (2 * TURN) == 0 and (step == 2 * TURN or arm != "static_negatives"):
            places = candidates(towers, queries, documents, wanted)  # static ones come from a retriever that has begun to learn
        batch = torch.randint(QUERIES, (BATCH,), generator=generator)
        shown = documents[places[batch]]
        for optimizer in optimizers:
            optimizer.zero_grad()
        if step % (2 * TURN) >= TURN:
            scores = towers(queries[batch], shown)
            loss = of_retriever(scores, judged(batch, shown).detach()) if arm == "ar2" else of_ranker(scores)
        elif arm == "ar2":
            loss = of_ranker(judged(batch, shown))
        else:
            continue
        loss.backward()
        optimizers[0 if step % (2 * TURN) >= TURN else 1].step()
    return recall(towers, test, documents, wanted)


def retrieval(seed: int) -> dict[str, dict[str, float]]:
    return {arm: {"recall_at_5": retrieved(arm, seed)} for arm in ("ar2", "static_negatives", "new_negatives")}


RULES = tuple(higher("recall_at_5", "ar2", than=other) for other in ("static_negatives", "new_negatives"))
DATA = "400 documents and noisy queries for them; two linear towers, and a network as the ranker; 320 steps of the retriever"
CLAIM = Claim(
    paper="ar2_retriever",
    statement="A retriever that is trained against a ranker, and learns from it, finds more than one that learns from negatives"
    " alone.",
    experiments=(Computation("generated retrieval", retrieval, RULES, 10, f"{DATA} on 20 negatives each. Recall of the first 5."),),
    seconds=40,
    note="The paper has language models, questions and passages; the weight of its adversarial term is not known; ours is 0.5.",
)
