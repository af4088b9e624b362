"""Bad positive pairs: are they found, and are features better if they count less?"""

import torch
from torch import Tensor

from lossary import Objective, create
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, lower, mlp, pixels, split_of
from lossary.claims.papers._two_views import counted, neighbour_accuracy, view

DIGITS, SEEDS, EPOCHS, BATCH, NOISE, BAD = Real("digits", (pixels,)), 20, 40, 128, 0.5, 0.05


def measured(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    x, y = split.train.features, split.train.target
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    count = round(BAD * len(x))
    swapped, noise, clean = order[:count], order[count : 2 * count], order[2 * count :]
    partner = x.clone()
    partner[swapped] = x[swapped.roll(1)]  # the second view is of another image
    shared = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    noisy = torch.zeros(len(x), 1, 1, 1, dtype=torch.bool)
    noisy[noise] = True  # both views hold one noise at the same places, and no image

    def seen(images: Tensor, batch: Tensor) -> Tensor:
        return torch.where(noisy[batch], shared[batch] + NOISE * torch.randn_like(images), view(images, NOISE))

    def trained(objective: Objective) -> float:
        torch.manual_seed(seed)
        encoder, projector = mlp(seed, 64, 128, 64), mlp(seed + 1000, 64, 64, 32)
        progress = counted(len(x), EPOCHS, BATCH, seed)

        def loss(batch: Tensor) -> Tensor:
            one, other = (projector(encoder(seen(images[batch], batch))) for images in (x, partner))
            value: Tensor = objective(one, other, index=batch, progress=progress())
            return value

        fit([*encoder.parameters(), *projector.parameters()], loss, len(x), epochs=EPOCHS, batch_size=BATCH, seed=seed)
        with torch.no_grad():
            known, asked = encoder(x), encoder(split.test.features)
        return neighbour_accuracy(known, y, asked, split.test.target)

    mining = create("dbpm", num_samples=len(x), num_epochs=EPOCHS)
    plain = create("dbpm", num_samples=len(x), num_epochs=EPOCHS, noisy_threshold=1e9, faulty_threshold=1e9)
    found = {"dbpm": {"accuracy": trained(mining)}, "nt_xent": {"accuracy": trained(plain)}}
    flagged = mining.get_buffer("flagged").double()
    for name, rows in (("swapped", swapped), ("noise", noise), ("clean", clean)):
        found[name] = {"share_flagged": float(flagged[rows].mean())}
    return found


CLAIM = Claim(
    paper="dbpm",
    statement="Positive pairs that share nothing but noise, or nothing at all, are found by how their loss develops over the"
    " epochs, and features are better if these pairs count less.",
    experiments=(
        Computation(
            title="digits with bad pairs, without labels",
            function=measured,
            rules=(
                higher("share_flagged", "swapped", than="clean", by=0.2),
                higher("share_flagged", "noise", than="clean", by=0.2),
                lower("share_flagged", "clean", than=0.1),
                higher("accuracy", "dbpm", than="nt_xent"),
            ),
            seeds=SEEDS,
            description="Digits; of 5% of the pairs the second view is of another image, of 5% both are of the same noise."
            " Views moved by up to a pixel with noise of deviation 0.5; a hidden layer of 128, 64 features and a projection to 32;"
            " 40 epochs in batches of 128, Adam at 0.003; pairs are mined from 25 epochs on, two deviations from the mean. Accuracy"
            " of the five nearest training images' vote, by the cosine of features.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=75,
    note="The paper has recordings of hearts, brains and movements; its bad pairs are what recording and augmenting make.",
)
