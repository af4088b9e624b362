"""Refusals: one sentence that names the unit, the argument, what is allowed and what was given."""

from collections.abc import Callable, Sequence
from typing import Protocol

from lossary._core.registry import Spec, UnitSpec
from lossary.errors import LossaryError
from lossary.testing._outcome import Failed
from lossary.testing._table import first_line

Case = tuple[str, str, Callable[[], object]]  # the mistake, the argument it is in, and how to make it


class MayBeRegistered(Protocol):
    """A subject of any suite; what is not registered may use the plain built-in errors."""

    @property
    def spec(self) -> Spec | UnitSpec | None: ...


def must_refuse(subject: MayBeRegistered, cases: Sequence[Case]) -> str:
    """Try every mistake, and fail with the first few that are not refused as they should be."""
    faults = []
    for what, argument, attempt in cases:
        try:
            attempt()
        except Exception as error:
            wrong = complaint(subject, error, argument or None)
            if wrong:
                faults.append(f"{what}: {wrong}")
        else:
            faults.append(f"{what} is accepted in silence")
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise Failed(f"{len(faults)} of {len(cases)} mistakes: {'; '.join(faults[:3])}{more}")
    return f"{len(cases)} mistakes refused"


def complaint(subject: MayBeRegistered, error: BaseException, argument: str | None = None) -> str | None:
    """What is wrong with a refusal, or None. Losses that are not registered may use the plain built-in errors."""
    text = str(error)
    if type(error) is TypeError and argument is not None and "missing" in text and repr(argument) in text:
        return None  # Python itself says that an argument is left out
    if not isinstance(error, (ValueError, TypeError)):
        return f"{type(error).__name__} instead of ValueError or TypeError: {first_line(text)}"
    if subject.spec is None:
        return None
    if not isinstance(error, LossaryError):
        return f"{type(error).__name__} is not a LossaryError: {first_line(text)}"
    if "\n" in text or not text.startswith(f"{subject.spec.name}: ") or "got" not in text:
        return f'it should read "{subject.spec.name}: ... must be ..., got ..." in one line: {text!r}'
    if argument is not None and argument not in text:
        return f"the sentence does not name {argument}: {text!r}"
    return None
