"""Sets put out in an order of the model's own choice, against orders that somebody gave them."""

import torch
from torch import Tensor, nn

import lossary
from lossary.claims import Claim, Computation, fit, higher, mlp
from lossary.functional import candidate_orders

CLASSES, MEMBERS, WIDTH, ROWS = 12, 4, 16, 1000
EPOCHS, BATCH = 30, 50
ORDERS = candidate_orders(MEMBERS, 24)


def sets(seed: int) -> tuple[Tensor, Tensor]:
    """Noisy sums of the codes of four classes, and the classes in random order; half of them are for the test."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(CLASSES, WIDTH, generator=generator)
    members = torch.rand(2 * ROWS, CLASSES, generator=generator).argsort(1)[:, :MEMBERS]
    return codes[members].sum(1) + 0.1 * torch.randn(2 * ROWS, WIDTH, generator=generator), members


def steps(model: nn.Module, codes: Tensor, previous: Tensor) -> Tensor:
    """Log-probabilities of the next member, given the code and the one before (CLASSES: none), of any leading shape."""
    before = torch.nn.functional.one_hot(previous, CLASSES + 1).float()
    rows = torch.cat([codes.expand(*previous.shape, WIDTH), before], -1)
    found: Tensor = model(rows.flatten(0, -2)).view(*previous.shape, CLASSES)
    return found.log_softmax(-1)


def log_prob(model: nn.Module, codes: Tensor, orders: Tensor) -> Tensor:
    """Of each of K orders (N, K, T) of the members; the model sees one member before, as an n-gram does."""
    start = torch.full_like(orders[..., :1], CLASSES)
    each = steps(model, codes[:, None, None], torch.cat([start, orders[..., :-1]], -1))
    return each.gather(-1, orders.unsqueeze(-1)).sum((-1, -2))


def exact(model: nn.Module, codes: Tensor, members: Tensor) -> float:
    """How often the likeliest member after the other, not to come twice, is the set."""
    previous, taken = torch.full((len(codes),), CLASSES), torch.zeros(len(codes), CLASSES, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(MEMBERS):
            previous = steps(model, codes, previous).masked_fill(taken, -torch.inf).argmax(1)
            taken = taken.scatter(1, previous.unsqueeze(1), True)
    return float((taken.gather(1, members).all(1)).float().mean())


def orders(seed: int) -> dict[str, dict[str, float]]:
    inputs, members = sets(seed)
    search = lossary.create("order_search")
    found = {}
    for arm in ("order_search", "random_order", "sorted_order"):
        model = mlp(seed, WIDTH + CLASSES + 1, 64, CLASSES)
        given = members.sort(1).values if arm == "sorted_order" else members
        progress = iter(torch.linspace(0, 1, EPOCHS * ROWS // BATCH).tolist())
        orders_of = ORDERS if arm == "order_search" else ORDERS[:1]

        def loss(batch: Tensor, given: Tensor = given, orders_of: Tensor = orders_of, model: nn.Module = model) -> Tensor:
            value: Tensor = search(log_prob(model, inputs[batch], given[batch][:, orders_of]), progress=next(progress))  # noqa: B023
            return value

        fit(model.parameters(), loss, ROWS, epochs=EPOCHS, batch_size=BATCH, seed=seed)
        found[arm] = {"exact_sets": exact(model, inputs[ROWS:], members[ROWS:])}
    return found


def slots(seed: int) -> dict[str, dict[str, float]]:
    inputs, members = sets(seed)
    found = {}
    for arm in ("set_cross_entropy", "cross_entropy"):
        loss = lossary.create(arm)
        model = nn.Sequential(mlp(seed, WIDTH, 64, MEMBERS * CLASSES), nn.Unflatten(1, (MEMBERS, CLASSES)))

        def of_batch(batch: Tensor, arm: str = arm, model: nn.Module = model, loss: nn.Module = loss) -> Tensor:
            logits = model(inputs[batch])
            value: Tensor = loss(logits if arm == "set_cross_entropy" else logits.transpose(1, 2), members[batch])
            return value

        fit(model.parameters(), of_batch, ROWS, epochs=EPOCHS, batch_size=BATCH, seed=seed)
        with torch.no_grad():
            put_out = model(inputs[ROWS:]).argmax(2).sort(1).values
        found[arm] = {"exact_sets": float((put_out == members[ROWS:].sort(1).values).all(1).float().mean())}
    return found


DATA = "A noisy sum of four of twelve random codes says what is in the set; 1000 sets, 30 epochs, exact sets of 1000 others."
BETTER = higher("exact_sets", "order_search", than="random_order")
AS_GOOD = higher("exact_sets", "order_search", than="sorted_order", by=-0.02)
AT_ONCE = higher("exact_sets", "set_cross_entropy", than="cross_entropy")
CLAIM = Claim(
    paper="order_search",
    statement="In which order the members of a set are put out matters much; a model that searches the order while it trains does"
    " better than in an order without a meaning, and as well as in a good one.",
    experiments=(
        Computation("one member after the other", orders, (BETTER, AS_GOOD), 10, f"{DATA} The network sees the member before."),
        Computation("all members at once", slots, (AT_ONCE,), 10, f"{DATA} Four outputs that know nothing of each other."),
    ),
    seconds=100,
    note="The paper models five-grams of text and sorts numbers with recurrent networks.",
)
