"""Two heads on one backbone: one for labels, one for a teacher."""

from torch import Tensor, nn

from lossary._core.checks import check_floating, shape_text
from lossary._core.parameters import PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidValueError

HIDDEN, DROPOUT = 200, 0.1  # of the nonlinear head, as in the authors' program


@unit(kind="layer", name="dual_head")
class DualHead(nn.Module):
    r"""A main head, which labels teach, and an auxiliary one, which a teacher does.

    .. math:: s = W x + b, \qquad a = V x + c \quad\text{or}\quad a = V\,\mathrm{relu}(\mathrm{norm}(\mathrm{drop}(U x + d))) + c

    For ``dual_head_kd``, in which both signals on one head disturb each other. The auxiliary head is only there in training; in
    evaluation mode it can be dropped, and predictions are those of the main head. The nonlinear one has a hidden layer of 200 with
    dropout of 0.1 and batch normalization.

    Args:
        embedding_dim: the width D of the embedding.
        num_classes: how many classes C there are.
        nonlinear: whether the auxiliary head has a hidden layer.
    Shape: embedding (N, D); the result is a pair of main and auxiliary logits, both (N, C).
    Errors: a shape or dtype other than these, or sizes that are not positive integers, are a ``LossaryError``.
    Source: Yang, Zong, Huang, Feng and An, "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary
        Head", 2024; the authors use the nonlinear head for CIFAR and the linear one for ImageNet.

    >>> main, auxiliary = DualHead(embedding_dim=8, num_classes=3)(torch.zeros(2, 8))
    >>> main.shape, auxiliary.shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    @checked("dual_head")
    def __init__(self, embedding_dim: PositiveCount, num_classes: PositiveCount, nonlinear: bool = False):
        super().__init__()
        self.embedding_dim, self.num_classes, self.nonlinear = embedding_dim, num_classes, nonlinear
        self.main = nn.Linear(embedding_dim, num_classes)
        self.auxiliary: nn.Module = nn.Linear(embedding_dim, num_classes)
        if nonlinear:
            hidden = (nn.Linear(embedding_dim, HIDDEN), nn.Dropout(DROPOUT), nn.BatchNorm1d(HIDDEN), nn.ReLU())
            self.auxiliary = nn.Sequential(*hidden, nn.Linear(HIDDEN, num_classes))

    def reset_parameters(self) -> None:
        """Draw the weights of both heads anew."""
        for layer in (self.main, self.auxiliary, *self.auxiliary.children()):
            if isinstance(layer, nn.Linear | nn.BatchNorm1d):
                layer.reset_parameters()

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        check_floating("dual_head", "embedding", embedding)
        if embedding.ndim != 2 or embedding.shape[1] != self.embedding_dim:
            shape = f"(N, {self.embedding_dim})"
            raise InvalidValueError(f"dual_head: embedding must have shape {shape}, got {shape_text(tuple(embedding.shape))}")
        return self.main(embedding), self.auxiliary(embedding)

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}, nonlinear={self.nonlinear}"
