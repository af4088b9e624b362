"""The table of checks of objectives, and how one is run."""

from collections.abc import Iterable, Mapping

from lossary.testing import _contract, _distributed, _edges, _gradients, _precision, _relations, _state, _transforms
from lossary.testing._card import Card, Result
from lossary.testing._detect import subject_of
from lossary.testing._subject import Subject
from lossary.testing._table import Table

TABLE = Table[Subject](
    _relations.function_is_module,
    _relations.reductions_agree,
    _relations.one_hot_is_index,
    _relations.ignored_is_absent,
    _relations.weight_of_two_is_listed_twice,
    _relations.smoothing_is_a_soft_target,
    _relations.permutation_of_the_batch,
    _relations.permutation_within_samples,
    _relations.duplicated_batch,
    _relations.accumulation_over_micro_batches,
    _relations.special_cases,
    _gradients.upstream_gradients,
    _gradients.gradcheck_float64,
    _gradients.minimum_at_the_target,
    _gradients.useful_gradient,
    _gradients.finite_at_extremes,
    _gradients.own_parameters,
    _gradients.constants_get_no_gradient,
    _precision.half_precision_accuracy,
    _precision.half_precision_maps,
    _edges.empty_batch,
    _edges.everything_ignored,
    _edges.single_class_batch,
    _edges.single_class_dimension,
    _edges.non_contiguous_inputs,
    _contract.refuses_wrong_tensors,
    _contract.side_inputs,
    _contract.refuses_wrong_parameters,
    _contract.dtype_and_device_kept,
    _contract.link_tells_the_truth,
    _contract.docstring_is_complete,
    _contract.declared_properties,
    _state.state_dict_round_trip,
    _state.pickle_and_copy_round_trips,
    _state.repr_shows_parameters,
    _state.leaves_no_trace,
    _transforms.compiles_whole,
    _transforms.maps_over_models,
    _transforms.autocast_changes_nothing,
    _distributed.distributed_data_parallel,
)
CHECKS = TABLE.checks


def describe(check: str) -> str:
    """What a check asserts, in one line."""
    return TABLE.describe(check)


def check_objective(
    loss: object,
    *,
    only: Iterable[str] | None = None,
    family: str | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Card:
    """Run the checks on a loss and return its card.

    Args:
        loss: a registered name, ``"module:attribute"``, a class, an instance, a factory, a function, or a :class:`Subject`.
        only: names of the checks to run; all by default.
        family: the family of a loss that is not registered, where it cannot be told from its behaviour.
        parameters: parameters to build the loss with.
    """
    wanted = TABLE.named(only)
    subject = subject_of(loss, family=family, parameters=parameters)
    if len(wanted) > 1 and "distributed_data_parallel" in wanted:
        _distributed.start()  # the processes get ready while the other checks run
    return TABLE.card(subject, wanted)


def run_check(name: str, subject: Subject) -> Result:
    """Run one check; a waiver turns its failure into "waived", and anything else into a failure of the waiver."""
    return TABLE.run(name, subject)
