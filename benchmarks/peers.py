"""What our losses are measured against: the same losses of other packages, and as people write them in plain PyTorch operations."""

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Peer:
    """A loss of another package with the parameters that make it equal one of ours."""

    package: str
    objective: str
    module: str
    name: str
    make: Callable[[Any], Loss]
    alone: bool = False  # import the module without the packages around it, which want what is not needed here

    @property
    def label(self) -> str:
        return f"{self.package} {self.name}"

    def load(self) -> Loss:
        return self.make(getattr(module_alone(self.module) if self.alone else importlib.import_module(self.module), self.name))


def module_alone(name: str) -> Any:
    """Import a module; the packages around it are entered but not run.

    timm and segmentation-models-pytorch import torchvision, which has to be built for the very torch that is installed, and relplot
    imports what it draws with; none of it has to do with the computations.
    """
    package = ""
    for part in name.split(".")[:-1]:
        package = f"{package}.{part}".strip(".")
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {package!r}")
            sys.modules[package] = importlib.util.module_from_spec(spec)
    return importlib.import_module(name)


def monai_softmax(made: Any) -> Loss:
    loss = per_class(made(to_onehot_y=True, use_softmax=True, gamma=2.0))
    return lambda z, y: loss(z, y.unsqueeze(1))


def per_class(loss: Any) -> Loss:
    """For a mean over classes too, which is smaller than a mean over samples by their number."""
    return lambda z, y: loss(z, y) * z.shape[1]


TIMM_ASYMMETRIC, TIMM_POLY = "timm.loss.asymmetric_loss", "timm.loss.poly_loss"
SMP_FOCAL = "segmentation_models_pytorch.losses.focal"

PEERS = (
    Peer("kornia", "focal", "kornia.losses", "FocalLoss", lambda made: per_class(made(None, gamma=2.0, reduction="mean"))),
    Peer("monai", "focal", "monai.losses", "FocalLoss", monai_softmax),
    Peer("timm", "polyloss", TIMM_POLY, "PolyCrossEntropy", lambda made: made(epsilon=1.0), alone=True),
    Peer(
        "timm", "asymmetric_single_label", TIMM_ASYMMETRIC, "AsymmetricLossSingleLabel",
        lambda made: made(gamma_pos=0, gamma_neg=4, eps=0.1), alone=True,
    ),
    Peer(
        "kornia", "sigmoid_focal", "kornia.losses", "BinaryFocalLossWithLogits",
        lambda made: made(0.25, gamma=2.0, reduction="mean"),
    ),
    Peer("monai", "sigmoid_focal", "monai.losses", "FocalLoss", lambda made: made(gamma=2.0, alpha=0.25)),
    Peer(
        "segmentation-models-pytorch", "sigmoid_focal", SMP_FOCAL, "FocalLoss",
        lambda made: made("binary", alpha=0.25, gamma=2.0), alone=True,  # the mode for labels is a loop over them
    ),
    Peer(
        "timm", "asymmetric", TIMM_ASYMMETRIC, "AsymmetricLossMultiLabel",
        lambda made: made(gamma_neg=4, gamma_pos=0, clip=0.05, disable_torch_grad_focal_loss=True, reduction="mean"), alone=True,
    ),
    Peer(
        "timm", "poly_focal", TIMM_POLY, "PolyBinaryCrossEntropy",
        lambda made: made(epsilon=-1.0, gamma=2.0, alpha=0.25), alone=True,
    ),
)  # fmt: skip


def load_peers(only: set[str]) -> tuple[dict[str, list[tuple[Peer, Loss]]], dict[str, str]]:
    """The peers of each objective that can be imported, and for the other packages the reason why not."""
    found: dict[str, list[tuple[Peer, Loss]]] = {}
    missing: dict[str, str] = {}
    for peer in PEERS:
        if peer.objective in only:
            try:
                found.setdefault(peer.objective, []).append((peer, peer.load()))
            except (ImportError, AttributeError) as error:
                missing[peer.label] = str(error)
    return found, missing


def version_of(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


@cache
def class_counts(labels: int) -> Tensor:
    """How many samples have each label, from one upwards."""
    return torch.arange(labels) * 7 + 1


@cache
def margins(labels: int) -> Tensor:
    return 3.0 * class_counts(labels).pow(-0.25)


def log_p_of(z: Tensor, y: Tensor) -> Tensor:
    return z.log_softmax(1).gather(1, y.unsqueeze(1)).squeeze(1)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return -log_p_of(z, y).mean()


def focal(z: Tensor, y: Tensor) -> Tensor:
    log_p = log_p_of(z, y)
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


def polyloss(z: Tensor, y: Tensor) -> Tensor:
    log_p = log_p_of(z, y)
    return (1 - log_p.exp() - log_p).mean()


def dco(z: Tensor, y: Tensor) -> Tensor:
    return -torch.log1p(-((1 - log_p_of(z, y).exp()) ** 16)).mean()


def squentropy(z: Tensor, y: Tensor) -> Tensor:
    true = z.gather(1, y.unsqueeze(1)).squeeze(1)
    others = (z.square().sum(1) - true.square()) / (z.shape[1] - 1)
    return functional.cross_entropy(z, y) + others.mean()


def dual_focal(z: Tensor, y: Tensor) -> Tensor:
    log_p = z.log_softmax(1)
    p = log_p.exp()
    true = p.gather(1, y.unsqueeze(1))
    below = torch.where(p < true, p, 0.0).amax(1)
    return (-((1 - true.squeeze(1) + below) ** 5) * log_p.gather(1, y.unsqueeze(1)).squeeze(1)).mean()


def asymmetric_single_label(z: Tensor, y: Tensor) -> Tensor:
    log_p = z.log_softmax(1)
    true = torch.zeros_like(z).scatter(1, y.unsqueeze(1), 1.0)
    focus = torch.pow((1 - true) * log_p.exp() + true, 4)
    return -((0.9 * true + 0.1 / z.shape[1]) * focus * log_p).sum(1).mean()


def ldr_kl(z: Tensor, y: Tensor) -> Tensor:
    at = y.unsqueeze(1)
    gaps = (z - z.gather(1, at) + 0.1).scatter(1, at, 0.0)
    return gaps.logsumexp(1).mean() - torch.tensor(z.shape[1]).log()


def z_loss(z: Tensor, y: Tensor) -> Tensor:
    true = z.gather(1, y.unsqueeze(1)).squeeze(1)
    return functional.softplus((z.mean(1) - true) / z.std(1, correction=0)).mean()


def sample_dice(z: Tensor, y: Tensor) -> Tensor:
    p = z.softmax(1)
    true = torch.zeros_like(z).scatter(1, y.unsqueeze(1), 1.0)
    return (1 - (2 * p * true + 1) / (p.square() + true + 1)).mean()


def correctness_aware(z: Tensor, y: Tensor) -> Tensor:
    confidence, predicted = z.softmax(1).max(1)
    return (confidence - (predicted == y).float()).square().mean()


def gumbel_optimized(z: Tensor, y: Tensor) -> Tensor:
    p = torch.exp(-torch.exp(-z.clamp(-4.0, 10.0)))
    true = torch.zeros_like(z).scatter(1, y.unsqueeze(1), 1.0)
    return functional.binary_cross_entropy(p, true, reduction="sum") / z.shape[0]


def binary_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return -(y * functional.logsigmoid(z) + (1 - y) * functional.logsigmoid(-z)).mean()


def batch_perceptron(z: Tensor, y: Tensor) -> Tensor:
    return (-(2 * y - 1) * z).relu().mean()


def ldam_multilabel(z: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z - margins(z.shape[1]) * y, y)


def sigmoid_focal(z: Tensor, y: Tensor) -> Tensor:
    p = z.sigmoid()
    right = p * y + (1 - p) * (1 - y)
    cost = functional.binary_cross_entropy_with_logits(z, y, reduction="none") * (1 - right) ** 2
    return ((0.25 * y + 0.75 * (1 - y)) * cost).mean()


def poly_focal(z: Tensor, y: Tensor) -> Tensor:
    p = z.sigmoid()
    wrong = 1 - (p * y + (1 - p) * (1 - y))
    cost = functional.binary_cross_entropy_with_logits(z, y, reduction="none") * wrong**2 - wrong**3
    return ((0.25 * y + 0.75 * (1 - y)) * cost).mean()


def asymmetric(z: Tensor, y: Tensor) -> Tensor:
    p = z.sigmoid()
    not_shifted = (1 - p + 0.05).clamp(max=1)
    cost = y * p.clamp(min=1e-8).log() + (1 - y) * not_shifted.clamp(min=1e-8).log()
    with torch.no_grad():
        focus = torch.pow(1 - p * y - not_shifted * (1 - y), 4 * (1 - y))
    return -(cost * focus).mean()


# As people write them, with the same parameters as ours by default.
COMPOSED: dict[str, Loss] = {
    made.__name__: made
    for made in (
        asymmetric, asymmetric_single_label, batch_perceptron, binary_cross_entropy, correctness_aware, cross_entropy, dco,
        dual_focal, focal, gumbel_optimized, ldam_multilabel, ldr_kl, poly_focal, polyloss, sample_dice, sigmoid_focal, squentropy,
        z_loss,
    )
}  # fmt: skip
