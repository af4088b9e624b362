"""The table of checks, and how one is run."""

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping

from lossary._registry import suggestion
from lossary.errors import UnknownNameError
from lossary.testing import _contract, _distributed, _edges, _gradients, _precision, _relations, _state, _transforms
from lossary.testing._card import Card, Result, Status
from lossary.testing._detect import subject_of
from lossary.testing._subject import Failed, NotApplicable, Subject, first_line

Check = Callable[[Subject], str]

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
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
}


def describe(check: str) -> str:
    """What a check asserts, in one line."""
    return (inspect.getdoc(CHECKS[check]) or "").partition("\n")[0]


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
    wanted = list(CHECKS) if only is None else list(only)
    for name in wanted:
        if name not in CHECKS:
            raise UnknownNameError(f"there is no check named {name!r}{suggestion(name, CHECKS)}")
    subject = subject_of(loss, family=family, parameters=parameters)
    if len(wanted) > 1 and "distributed_data_parallel" in wanted:
        _distributed.start()  # the processes get ready while the other checks run
    return Card(subject.name, subject.family, tuple(run_check(name, subject) for name in CHECKS if name in wanted))


def run_check(name: str, subject: Subject) -> Result:
    """Run one check; a waiver turns its failure into "waived", and anything else into a failure of the waiver."""
    started = time.perf_counter()
    status, detail = _outcome(CHECKS[name], subject)
    reason = subject.spec.waivers.get(name) if subject.spec is not None else None
    if reason is not None:
        if status == "failed":
            status, detail = "waived", f"{reason} ({detail})"
        else:
            status, detail = "failed", f"the waiver is stale: the check is {status} ({detail})"
    return Result(name, status, detail, time.perf_counter() - started)


def _outcome(check: Check, subject: Subject) -> tuple[Status, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor|functorch)")
            return "passed", check(subject)
    except NotApplicable as reason:
        return "not applicable", str(reason)
    except Failed as fault:
        return "failed", str(fault)
    except Exception as error:  # whatever somebody's loss raises where it should have answered
        return "failed", f"{type(error).__name__}: {first_line(str(error))}"
