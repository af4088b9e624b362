"""DatasetEquity: samples of a rare appearance weigh more."""

from typing import Annotated, Literal

from torch import Tensor

from lossary._core.checks import check_class_inputs, check_floating, check_integers, check_shape
from lossary._core.objective import Objective, is_ignored, reduce
from lossary._core.parameters import NonNegative, OneOf, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._core.values import check_indices
from lossary.data.dataset_equity import dataset_equity_weight
from lossary.errors import InvalidTypeError
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.focal import focal

Base = Annotated[Literal["cross_entropy", "focal"], OneOf(("cross_entropy", "focal"))]


@formula
def dataset_equity(
    logits: Tensor,
    target: Tensor,
    likelihood: Tensor,
    *,
    eta: NonNegative = 1.0,
    gamma: NonNegative = 5.0,
    base: Base = "cross_entropy",
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DatasetEquityLoss`, with the same parameters."""
    check_class_inputs("dataset_equity", logits, target, None)
    check_floating("dataset_equity", "likelihood", likelihood)
    check_shape("dataset_equity", "likelihood", likelihood, (logits.shape[0],))
    per_sample = (cross_entropy if base == "cross_entropy" else focal)(logits, target, ignore_index=ignore_index, reduction="none")
    weight = dataset_equity_weight(likelihood.to(per_sample.dtype), eta, gamma)
    weighted = per_sample * weight.view(-1, *[1] * (per_sample.ndim - 1))
    counted = per_sample.numel() if target.is_floating_point() else (~is_ignored(target, ignore_index)).sum().to(weighted.dtype)
    return reduce(weighted, counted, reduction)


@objective(
    family="classification",
    function=dataset_equity,
    proper=True,
    tune={"eta": (0.3, 1.0), "gamma": (2.0, 5.0)},
    special_cases=[SpecialCase({"gamma": 0.0}, "cross_entropy"), SpecialCase({"gamma": 0.0, "base": "focal"}, "focal")],
)
class DatasetEquityLoss(Objective):
    r"""DatasetEquity: a loss that weighs samples of a rare appearance more.

    .. math:: \ell = \frac{\eta + (1 - p)^\gamma}{\eta + 1} \, \ell_\mathrm{base}(z, y)

    p is the likelihood of the sample's appearance, such as the share of the data set in its cluster
    (``lossary.data.cluster_likelihood``). It comes with each batch, or it is looked up: with a table of the whole data set at
    construction, the loss wants ``index`` instead. The mean divides by the number of samples, not by the sum of the weights. With
    two clusters of 5 % and 95 % the default weighs them as 1.8 to 1; an eta of 0 and one large cluster lose the latter. For a loss
    of another kind multiply its values by ``lossary.data.dataset_equity_weight``. Not the Generalized Focal Loss of detection.

    Args:
        eta: how much of the weight does not depend on the likelihood.
        gamma: how fast the rest falls with the likelihood; 0 is the base loss.
        likelihood: the likelihood of each sample of the data set (num_samples,), to be looked up.
        base: ``"cross_entropy"``, or ``"focal"`` with its default focusing.
        ignore_index: samples whose target has this value are left out.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities; likelihood (N,) in [0, 1], or index (N,)
        int64.
    Units: nats.
    Errors: a shape or dtype other than these, a parameter outside its range, or neither of the two inputs, is a ``LossaryError``.
    Source: Shrivastava and others, "DatasetEquity: Are All Samples Created Equal? In The Quest For Equity Within Datasets", 2023.

    >>> DatasetEquityLoss()(torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([0.0, 1.0]))
    tensor(0.5199)
    """

    requires = ("likelihood",)
    likelihood: Tensor | None

    def __init__(
        self,
        *,
        eta: NonNegative = 1.0,
        gamma: NonNegative = 5.0,
        likelihood: Vector | None = None,
        base: Base = "cross_entropy",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ):
        super().__init__(eta=eta, gamma=gamma, likelihood=likelihood, base=base, ignore_index=ignore_index, reduction=reduction)
        if self.likelihood is not None:
            check_shape(self.name, "likelihood", self.likelihood, (self.likelihood.numel(),))
            self.requires = ("index",)

    def forward(self, logits: Tensor, target: Tensor, likelihood: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        parameters = self.hyperparameters()
        del parameters["likelihood"]
        of_samples = self._looked_up(logits, index) if likelihood is None else likelihood
        return self.function(logits, target, of_samples, **parameters)

    def _looked_up(self, logits: Tensor, index: Tensor | None) -> Tensor:
        if self.likelihood is None:
            raise InvalidTypeError(f"{self.name}: likelihood must be a tensor where there is no table of it, got None")
        if index is None:
            raise InvalidTypeError(f"{self.name}: index must be a tensor where likelihood is looked up, got None")
        check_floating(self.name, "logits", logits)
        check_integers(self.name, "index", index)
        check_shape(self.name, "index", index, tuple(logits.shape[:1]))
        try:
            return self.likelihood.index_select(0, index.long())
        except IndexError:
            check_indices(self.name, "index", index, "positions in the data set", len(self.likelihood))
            raise

    def link(self, output: Tensor) -> Tensor:
        return output.softmax(1)
