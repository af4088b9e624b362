"""Makes a subject of what a user names: a registered objective, a class, an instance, a factory or a plain function."""

import copy
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.kinds import FAMILIES
from lossary._core.names import resolved, suggestion
from lossary._core.parameters import Interval
from lossary._core.registry import Spec, name_of, spec, specs
from lossary.errors import InvalidTypeError, InvalidValueError, LossaryError, UnknownNameError
from lossary.testing._batch import inputs_of
from lossary.testing._inputs import Bags, Classification, Inputs, LabelRanking, Multilabel, Regression
from lossary.testing._named import Contrastive, Distillation, Metric, Named, Ranking, Sets
from lossary.testing._subject import Build, Failed, NotApplicable, Subject, first_line, keywords_of, required_by, wants

INPUTS: dict[str, type[Inputs]] = {
    cls.family: cls
    for cls in (
        Classification, Multilabel, Regression, LabelRanking, Bags, Metric, Contrastive, Ranking, Distillation, Sets,
    )
}  # fmt: skip
TOLD_BY_BEHAVIOUR = ("classification", "multilabel", "regression", "label_ranking", "bags", "embedding")
VARIED = ("reduction", "weight", "pos_weight")  # what the checks themselves set; the rest of a loss's parameters are kept


class FunctionLoss(nn.Module):
    """A plain function of output and target, with its keywords, as a module."""

    def __init__(self, function: Callable[..., Tensor], parameters: Mapping[str, object]):
        super().__init__()
        self.function, self.parameters_given = function, dict(parameters)
        self.called_as = function  # whose signature says what it takes
        needed = [name for name, p in keywords_of(function).items() if p.default is p.empty]
        self.requires = tuple(name for name in needed[2:] if name not in parameters)

    def forward(self, output: Tensor, target: Tensor, **sides: object) -> Tensor:
        return self.function(output, target, **sides, **self.parameters_given)


def load(path: str) -> object:
    """What ``module:attribute`` names."""
    module_name, _, attribute = path.partition(":")
    if not attribute:
        known = specs()
        raise UnknownNameError(
            f"there is no objective named {path!r}{suggestion(path, known)}; "
            "for a loss of your own write module:Class, such as my_losses:MyLoss"
        )
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"there is no module {error.name!r} here, so {path!r} cannot be checked") from error
    except LossaryError:
        raise
    except Exception as error:
        raise InvalidValueError(
            f"the module {module_name!r} cannot be imported: {type(error).__name__}: {first_line(str(error))}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownNameError(f"{module_name!r} has no {attribute!r}{suggestion(part, dir(found))}")
        found = getattr(found, part)
    return found


def subject_of(loss: object, *, family: str | None = None, parameters: Mapping[str, object] | None = None) -> Subject:
    """The subject for a registered name, ``module:attribute``, a Spec, a class, an instance, a factory or a function."""
    if isinstance(loss, Subject):
        return loss
    given = {name: _as_tensor(name, value) for name, value in (parameters or {}).items()}
    family = None if family is None else resolved(family, FAMILIES)
    if family is not None and family not in INPUTS:
        raise UnknownNameError(f"there is no family named {family!r}{suggestion(family, INPUTS)}; there are {', '.join(INPUTS)}")
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    if isinstance(loss, str):
        loss = spec(loss) if ":" not in loss and name_of(loss, specs()) in specs() else load(loss)
    if isinstance(loss, type):
        loss = next((known for known in specs().values() if known.cls is loss), loss)
    if isinstance(loss, Spec):
        return _registered(loss, family, given)
    build, keywords = _builder(loss, str(name))
    unknown = [key for key in given if key not in keywords]
    if unknown:
        raise InvalidTypeError(
            f"{name}: there is no parameter {unknown[0]!r}; "
            f"it takes {', '.join(sorted(keywords)) or 'none'}{suggestion(unknown[0], keywords)}"
        )
    optional = {key for key, p in keywords_of(loss).items() if p.default is not p.empty}
    _not_varied(str(name), given, optional)
    return _detected(str(name), build, frozenset(keywords), given, keywords - optional - set(given), family)


def _not_varied(name: str, given: Mapping[str, object], optional: set[str]) -> None:
    for key in VARIED:
        if key in given and key in optional:
            raise InvalidValueError(f"{name}: the checks try values of {key} themselves, so none can be given, got {given[key]!r}")


def _as_tensor(name: str, value: object) -> object:
    return torch.tensor(value, dtype=torch.float64) if name in ("weight", "pos_weight") and isinstance(value, list) else value


def _inputs(family: str, given: Mapping[str, object], required: Iterable[str], loss: object) -> tuple[Inputs, dict[str, object]]:
    """Inputs that fit the parameters given and a loss's arguments, and parameters without a default that fit the inputs."""
    count, weight = given.get("num_classes"), given.get("weight", given.get("pos_weight", given.get("class_counts")))
    classes = 8 if family == "label_ranking" else 5
    if isinstance(count, int):
        classes = count
    elif isinstance(weight, Tensor | list | tuple) and len(weight):
        classes = weight.shape[-1] if isinstance(weight, Tensor) else len(weight)
    made = required_by((name for name in required if name not in given), classes)
    sizes = {**made, **given}
    inputs = INPUTS[family](classes)
    if isinstance(inputs, Named):
        return inputs.fitted(loss, sizes), made
    width = sizes.get("embedding_dim")
    return replace(inputs, embedding=width if isinstance(width, int) else None), made


def _registered(found: Spec, family: str | None, given: Mapping[str, object]) -> Subject:
    if family is not None and family != found.family:
        raise InvalidValueError(f"{found.name}: family must be {found.family!r}, as it is registered, got {family!r}")
    for key in given:
        if not found.takes(key):
            allowed = [parameter.name for parameter in found.parameters]
            raise InvalidTypeError(
                f"{found.name}: there is no parameter {key!r}; it takes {', '.join(allowed)}{suggestion(key, allowed)}"
            )
    _not_varied(found.name, given, {p.name for p in found.parameters if not p.required and not isinstance(p.domain, Interval)})
    defaults = {name: value for name, value in found.defaults.items() if name == "num_heads"}
    inputs, required = _inputs(found.family, {**defaults, **given}, (p.name for p in found.parameters if p.required), found.cls)
    subject = Subject(
        name=found.name,
        inputs=inputs,
        build=found.cls,
        keywords=frozenset(parameter.name for parameter in found.parameters),
        given=given,
        required=required,
        spec=found,
        soft_targets=found.soft_targets,
        takes_space=found.spatial,
    )
    subject.make()  # refuses bad values in the objective's own words
    return subject


def _builder(loss: object, name: str) -> tuple[Build, set[str]]:
    """How to build the loss with other parameters, and the parameters there are."""
    if isinstance(loss, nn.Module):
        return _rebuild(loss)
    if not callable(loss):
        raise InvalidTypeError(f"{name} must be a loss class, an instance, a factory or a function, got {type(loss).__name__}")
    if isinstance(loss, type) and not issubclass(loss, nn.Module):
        raise InvalidTypeError(
            f"{name} must be a torch.nn.Module, a factory or a function, got a class of {loss.__mro__[1].__name__}"
        )
    keywords = set(keywords_of(loss))
    if not isinstance(loss, type):
        positional = [p for p in keywords_of(loss).values() if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]
        if len(positional) >= 2 or (not keywords and _is_function_of_two(loss)):
            function: Callable[..., Tensor] = loss
            names = keywords - {p.name for p in positional[:2]} - {"input", "target"}
            return (lambda **parameters: FunctionLoss(function, parameters)), names
    return loss, keywords


def _is_function_of_two(loss: Callable[..., object]) -> bool:
    """Whether something without a signature (a built-in) takes two tensors."""
    try:
        inspect.signature(loss)
    except (TypeError, ValueError):
        return True
    return False


def _rebuild(loss: nn.Module) -> tuple[Build, set[str]]:
    """An instance is copied; with other parameters its class is called with what the instance holds of the rest.

    Reduction and weights that it holds are set back to their defaults: the checks try their own.
    """
    cls = type(loss)
    keywords = keywords_of(cls)
    varied = {name: p.default for name, p in keywords.items() if name in VARIED and p.default is not p.empty}
    held = {name: getattr(loss, name) for name in keywords if hasattr(loss, name) and name not in varied}
    plain = all(getattr(loss, name, default) is None or getattr(loss, name, default) == default for name, default in varied.items())
    missing = [name for name, p in keywords.items() if p.default is p.empty and name not in held]
    as_it_is = plain or bool(missing)

    def build(**parameters: Any) -> nn.Module:
        if not parameters and as_it_is:
            return copy.deepcopy(loss)
        if missing:
            raise NotApplicable(f"the instance cannot be rebuilt with other parameters: it does not keep {missing[0]!r}")
        return cls(**{**held, **parameters})

    return build, set(keywords) if not missing else set()


def _detected(
    name: str, build: Build, keywords: frozenset[str], given: Mapping[str, object], required: Iterable[str], family: str | None
) -> Subject:
    _, made = _inputs("classification" if family is None else family, given, required, None)
    try:
        loss = build(**{**made, **given})
    except (LossaryError, Failed, NotApplicable):
        raise
    except Exception as error:
        raise InvalidTypeError(
            f"{name} cannot be built with {', '.join(given) or 'no parameters'}: {first_line(str(error))}; "
            "give what it needs with --param name=value"
        ) from error
    if not isinstance(loss, nn.Module):
        raise InvalidTypeError(f"{name} must give a torch.nn.Module, got {type(loss).__name__}")
    named = ("num_classes", "embedding_dim", "feature_dim")
    sizes = {name: getattr(loss, name) for name in named if isinstance(getattr(loss, name, None), int)}
    for candidate in (family,) if family is not None else (*_by_name(loss), *TOLD_BY_BEHAVIOUR):
        inputs, _ = _inputs(candidate, {**sizes, **made, **given}, (), loss)
        if family is not None or (candidate in _by_name(loss) and _runs(loss, inputs)) or _fits(loss, inputs):
            plain = not isinstance(inputs, Named)
            return Subject(
                name=name,
                inputs=inputs,
                build=build,
                keywords=keywords,
                given=given,
                required=made,
                soft_targets=candidate != "classification" or _runs(loss, inputs, kind="soft"),
                takes_space=plain and _runs(loss, inputs, space=(3,)),
            )
    raise InvalidValueError(
        f"{name} takes the inputs of no family ({', '.join(INPUTS)}): "
        "name the one it belongs to with --family, or give what it needs with --param"
    )


def _by_name(loss: nn.Module) -> tuple[str, ...]:
    """The family whose own names the first two arguments have: what a row of the calling convention calls them is safe to go by."""
    names = tuple(inputs_of(loss))[:2]
    return tuple(family for family, cls in INPUTS.items() if issubclass(cls, Named) and names == cls.usual and family != "sets")


def _runs(loss: nn.Module, inputs: Inputs, **drawing: Any) -> bool:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):
        warnings.simplefilter("error")
        try:
            batch = inputs.batch(loss, 6, **drawing)
            for name in batch.leaves:
                batch[name].requires_grad_()
            value = loss(*batch.arguments, **batch.sides)
            return isinstance(value, Tensor) and value.requires_grad and bool(value.isfinite().all())
        except Exception:
            return False


def _called(loss: nn.Module, inputs: Inputs, output: Tensor, target: Tensor) -> Tensor:
    batch = inputs.call(loss, output, target)
    value: Tensor = loss(*batch.arguments, **batch.sides)
    return value


def _fits(loss: nn.Module, inputs: Inputs) -> bool:
    """Whether a loss behaves as one of this family."""
    if ("bag" in wants(loss)) != (inputs.family == "bags") or not _runs(loss, inputs):
        return False
    if inputs.family in ("embedding", "classification"):
        return _names_its_classes(loss, inputs) == (inputs.family == "embedding")
    if inputs.embedding is not None:
        return inputs.family == "multilabel"  # the one other family with weights of its own
    by_label = inputs.family in ("label_ranking", "multilabel", "regression")
    if by_label and _ranks(loss, inputs) != (inputs.family == "label_ranking"):
        return False
    if inputs.family != "multilabel":
        return True
    # a label pulls its logit its own way wherever the logit is; a regression pulls back what is beyond the target
    pulls = []
    for label in (0.0, 1.0):
        output = torch.tensor([[-3.0, -1.0, 0.0, 2.0, 3.0]], dtype=torch.float64)[
            :, torch.arange(inputs.classes) % 5
        ].requires_grad_()
        target = torch.full_like(output, label)
        (gradient,) = torch.autograd.grad(_called(loss, inputs, output, target).sum(), output)
        pulls.append(bool((gradient <= 0).all()) if label else bool((gradient >= 0).all()))
    return all(pulls)


def _ranks(loss: nn.Module, inputs: Inputs) -> bool:
    """Whether a row is about its positive labels against the others: where there are none it has no gradient."""
    output = inputs.output(2).requires_grad_()
    target = torch.zeros_like(output).index_fill(1, torch.tensor([0]), 1.0) * torch.tensor([[1.0], [0.0]])
    (gradient,) = torch.autograd.grad(_called(loss, inputs, output, target).sum(), output)
    pushed = gradient[0, 1:]
    return bool(gradient[0, 0] < 0 and (pushed >= 0).all() and (pushed > 0).any() and (gradient[1] == 0).all())


def _names_its_classes(loss: nn.Module, inputs: Inputs) -> bool:
    """Whether any numbers will do for classes, which are the same or not; a classifier has places for so many of them."""
    output, target = inputs.batch(loss, 6).arguments[:2]
    if not isinstance(output, Tensor) or not isinstance(target, Tensor):
        return False
    try:
        plain, renamed = (_called(loss, inputs, output.clone().requires_grad_(), named) for named in (target, 1000 + 3 * target))
        return bool(torch.isclose(plain.sum(), renamed.sum()))
    except Exception:
        return False
