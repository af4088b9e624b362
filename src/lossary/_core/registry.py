"""One registry of everything Lossary can make, filled by decorators that stand beside the code.

``objective`` makes a frozen :class:`Spec` from the class, its function and what the author declares; the suite in
:mod:`lossary.testing` checks the declarations against behaviour. Everything of another kind (optimizers, layers, metrics, ...)
registers with ``unit``, whose :class:`UnitSpec` only has what all of them have. Other packages register their own with the
same decorators and name their module in the entry-point group ``lossary.objectives``.
"""

import fnmatch
import importlib
import importlib.metadata
import inspect
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from lossary._core.docstrings import of_forward, of_function
from lossary._core.kinds import FAMILIES, KINDS, UNITS
from lossary._core.names import resolved, suggestion
from lossary._core.parameters import Domain, checked, domains
from lossary._core.values import Kind, families
from lossary.errors import InvalidTypeError, InvalidValueError, UnknownNameError

if TYPE_CHECKING:
    from lossary._core.objective import Objective

ENTRY_POINTS = "lossary.objectives"
Link = Literal["probabilities", "scores", "ranking", "value"]
Distributed = Literal["exact", "inexact"]
Cls = TypeVar("Cls", bound="type[Objective]")
Made = TypeVar("Made", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """One keyword of an objective: its default and what it may be."""

    name: str
    default: object
    domain: Domain | None = None
    optional: bool = False

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={self.default!r}"


@dataclass(frozen=True)
class SpecialCase:
    """A declared identity: with these parameters the objective equals another one."""

    parameters: Mapping[str, object]
    equals: str
    of: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """What a caller can know of an objective without running it."""

    kind: str
    name: str
    family: str
    function: Callable[..., Any]
    cls: "type[Objective]"
    parameters: tuple[Parameter, ...]
    consumes: str | tuple[str, ...]
    requires: tuple[str, ...]
    soft_targets: bool
    decomposable: bool
    spatial: bool
    stochastic: bool
    value_is_objective: bool
    stage: Literal["train", "posthoc"]
    link: Link
    proper: bool
    saturates: bool
    vmap: bool
    compile: bool
    distributed: Distributed
    exact_gradient_with: Mapping[str, object]
    tune: Mapping[str, tuple[float, float]]
    special_cases: tuple[SpecialCase, ...]
    waivers: Mapping[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """What else it is called by: its aliases and the name of its class."""
        return (*self.aliases, self.cls.__name__)

    @property
    def defaults(self) -> dict[str, object]:
        return {p.name: p.default for p in self.parameters if not p.required}

    def takes(self, parameter: str) -> bool:
        """Whether the objective has a keyword of this name, such as ``weight`` or ``ignore_index``."""
        return any(p.name == parameter for p in self.parameters)

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    @property
    def papers(self) -> tuple[str, ...]:
        """Keys of the catalogue's records that provide this objective."""
        from lossary.catalogue import papers_providing

        return tuple(paper.key for paper in papers_providing(self.kind, self.name))

    @property
    def import_line(self) -> str:
        package = ".".join(self.cls.__module__.split(".")[:2])
        return f"from {package if package == 'lossary.losses' else self.cls.__module__} import {self.cls.__name__}"


@dataclass(frozen=True)
class UnitSpec:
    """What a caller can know of a unit that is no objective: a class to build, or a function to call."""

    kind: str
    name: str
    target: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    declares: Mapping[str, object] = field(default_factory=dict)
    waivers: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    @property
    def papers(self) -> tuple[str, ...]:
        """Keys of the catalogue's records that provide this unit."""
        from lossary.catalogue import papers_providing

        return tuple(paper.key for paper in papers_providing(self.kind, self.name))

    @property
    def import_line(self) -> str:
        home, public = self.target.__module__, self.target.__name__
        package = ".".join(home.split(".")[:2])
        return f"from {package if package.startswith('lossary.') else home} import {public}"


_specs: dict[tuple[str, str], Spec] = {}
_units: dict[tuple[str, str], UnitSpec] = {}
_OTHERS = "other packages"
_loaded: set[str] = set()  # the kinds whose modules are imported whole
_loading = threading.RLock()  # re-entrant: a module may ask for a kind while it is imported
_in_progress: set[str] = set()
_this_thread = threading.local()


def parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """The keywords of a function or a class, read from its signature."""
    return tuple(p for p, kind in _parameters_and_kinds(function) if kind is inspect.Parameter.KEYWORD_ONLY)


def _parameters_and_kinds(function: Callable[..., object]) -> list[tuple[Parameter, object]]:
    declared = domains(function)
    return [
        (Parameter(name, parameter.default, *declared.get(name, (None, False))), parameter.kind)
        for name, parameter in inspect.signature(function).parameters.items()
    ]


def objective(
    *,
    family: str,
    function: Callable[..., Any],
    aliases: Iterable[str] = (),
    soft_targets: bool = True,
    decomposable: bool = True,
    spatial: bool = True,
    stochastic: bool = False,
    value_is_objective: bool = True,
    stage: Literal["train", "posthoc"] = "train",
    link: Link = "probabilities",
    proper: bool = False,
    saturates: bool = False,
    vmap: bool = True,
    compile: bool = True,
    distributed: Distributed = "exact",
    exact_gradient_with: Mapping[str, object] | None = None,
    tune: Mapping[str, tuple[float, float]] | None = None,
    special_cases: Iterable[SpecialCase] = (),
    waivers: Mapping[str, str] | None = None,
) -> Callable[[Cls], Cls]:
    """Register a class as the objective named like its ``function``.

    Args:
        family: the row of the calling convention it follows.
        function: the pure function of the same maths, decorated with :func:`lossary.formula`.
        aliases: shorter names that the paper uses, by which it is found, built and shown as well; it is listed by its name alone.
        soft_targets: whether probabilities are accepted as targets.
        decomposable: False for a function of the batch as a whole, which has no per-sample values.
        spatial: whether outputs may have more dimensions than the first two of their family.
        stochastic: whether it draws random numbers, from torch's global generator.
        value_is_objective: False where only the gradient means something, so that nobody stops early on the value.
        stage: ``"posthoc"`` for an objective that calibrates a frozen model.
        link: what ``link`` returns: probabilities, scores that need not sum to one, a ranking, or the value itself.
        proper: whether the expected loss is smallest where ``link`` returns the true distribution.
        saturates: whether a sample that is utterly wrong may, by its maths, have hardly any gradient.
        vmap, compile: whether it runs under :func:`torch.func.vmap` and ``torch.compile(fullgraph=True)``.
        distributed: ``"exact"`` if averaging the gradients of equal shards gives the gradient of the whole batch.
        exact_gradient_with: parameters under which the gradient is the derivative of the value, where it is not by default.
        tune: the ranges in which a comparison may tune the objective's own hyper-parameters.
        special_cases: identities with other objectives.
        waivers: checks of the conformance suite it cannot meet, each with the reason.
    """

    def register(cls: Cls) -> Cls:
        name = function.__name__
        own_family = resolved(family, FAMILIES)
        if own_family not in FAMILIES:
            raise InvalidValueError(f"{name}: family must be one of {', '.join(FAMILIES)}, got {family!r}")
        existing = _specs.get(("objective", name))
        if existing is not None and (existing.cls.__module__, existing.cls.__qualname__) != (cls.__module__, cls.__qualname__):
            home = f"{existing.cls.__module__}.{existing.cls.__qualname__}"
            raise InvalidValueError(f"{name}: the name is already registered by {home}, choose another one")
        cls.function = staticmethod(function)
        cls.name = name
        if "__init__" in vars(cls):
            cls.__init__ = checked(name)(cls.__init__)  # type: ignore[method-assign]
        families[name] = Kind(own_family, one_against_rest=own_family == "classification" and link == "scores")
        _document(cls, function)
        _specs["objective", name] = Spec(
            kind="objective",
            name=name,
            family=own_family,
            function=function,
            cls=cls,
            parameters=parameters_of(cls),  # those of the function, and what sizes the objective's own weights or memory
            consumes=cls.consumes,
            requires=cls.requires,
            soft_targets=soft_targets,
            decomposable=decomposable,
            spatial=spatial,
            stochastic=stochastic,
            value_is_objective=value_is_objective,
            stage=stage,
            link=link,
            proper=proper,
            saturates=saturates,
            vmap=vmap,
            compile=compile,
            distributed=distributed,
            exact_gradient_with=MappingProxyType(dict(exact_gradient_with or {})),
            tune=MappingProxyType(dict(tune or {})),
            special_cases=tuple(special_cases),
            waivers=MappingProxyType(dict(waivers or {})),
            aliases=tuple(aliases),
        )
        return cls

    return register


def _document(cls: "type[Objective]", function: Callable[..., Any]) -> None:
    """Give the function, and ``forward`` where it has none, the docstring that an editor shows, from that of the class."""
    if cls.__doc__ is None:
        return
    taken = inspect.signature(function).parameters.values()
    keywords = [p.name for p in taken if p.kind is p.KEYWORD_ONLY]
    positional = [p.name for p in taken if p.kind is not p.KEYWORD_ONLY]
    function.__doc__ = of_function(function.__doc__ or "", cls.__doc__, positional, keywords)
    forward = vars(cls).get("forward")
    if forward is not None and not forward.__doc__:
        arguments = list(inspect.signature(forward).parameters)[1:]
        forward.__doc__ = of_forward(cls.__doc__, arguments)


def unit(
    *,
    kind: str,
    name: str | None = None,
    declares: Mapping[str, object] | None = None,
    waivers: Mapping[str, str] | None = None,
) -> Callable[[Made], Made]:
    """Register a class or a function of a kind that is no objective; its parameters are read from its signature.

    Args:
        kind: what it is, such as ``"optimizer"``, ``"layer"`` or ``"diagnostic"``.
        name: its name in the registry; a function's own name if left out. A class has to give one.
        declares: what the suite of its kind cannot know and checks: ``weight_decay`` of an optimizer (``"decoupled"`` or
            ``"coupled"``); ``bounds``, ``perfect`` and ``empty`` of a metric (two numbers, and the values of a perfect
            prediction and of no rows).
        waivers: checks of that suite that it cannot meet, each with the reason.
    """

    def register(target: Made) -> Made:
        registered = name or target.__name__
        if kind not in UNITS:
            raise InvalidValueError(f"{registered}: kind must be one of {', '.join(UNITS)}, got {kind!r}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", registered):
            raise InvalidValueError(f"{registered}: name must be lower case with underscores, got {registered!r}")
        existing = _units.get((kind, registered))
        if existing is not None and _home(existing.target) != _home(target):
            taken = _home(existing.target)
            raise InvalidValueError(f"{registered}: the {kind} is already registered by {taken}, choose another name")
        parameters = tuple(parameter for parameter, _ in _parameters_and_kinds(target))
        _units[kind, registered] = UnitSpec(
            kind, registered, target, parameters, MappingProxyType(dict(declares or {})), MappingProxyType(dict(waivers or {}))
        )
        return target

    return register


def _home(target: Callable[..., Any]) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def _load(kind: str = "objective") -> None:
    """Import every module that registers units of a kind: our own, then those of other packages.

    Our own modules are imported under one lock, as two imports that need each other's packages can block one another. Those of
    other packages are not: theirs may ask the registry while they are imported, in a thread that holds their import lock.
    """
    if kind not in _loaded:
        with _loading:
            if kind in _in_progress:  # a module that is being imported asks for its own kind
                return
            _in_progress.add(kind)
            try:
                for home in KINDS[kind]:
                    importlib.import_module(home)
            finally:
                _in_progress.remove(kind)
            _loaded.add(kind)
    _load_others()


def _load_others() -> None:
    """Import what other packages name in their entry points; a module that asks meanwhile sees what is registered so far."""
    if _OTHERS in _loaded or getattr(_this_thread, "loads_others", False):
        return
    _this_thread.loads_others = True
    try:
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
            try:
                entry.load()
            except Exception as error:  # another package's fault must not take ours down
                message = f"lossary: the objective {entry.name!r} of another package could not be loaded: {error}"
                warnings.warn(message, stacklevel=2)
    finally:
        _this_thread.loads_others = False
    _loaded.add(_OTHERS)


def specs(kind: str = "objective") -> dict[str, Spec]:
    """Every registered spec of a kind, by name."""
    _load()
    return {name: spec for (of, name), spec in sorted(_specs.items()) if of == kind}


def registered(name: str, kind: str = "objective") -> Spec | None:
    """Return the spec of one name, or None; this takes no longer than a look into a table."""
    _load(kind)
    return _specs.get((kind, name))


def spec(name: str, kind: str = "objective") -> Spec:
    """The spec of one name or alias; a misspelt one is refused with suggestions."""
    known = specs(kind)
    name = name_of(name, known)
    if name not in known:
        raise UnknownNameError(f"there is no {kind} named {name!r}{suggestion(name, every_name(known))}")
    return known[name]


def every_name(known: Mapping[str, Spec]) -> list[str]:
    """The registered names, and their aliases."""
    return [*known, *(alias for found in known.values() for alias in found.aliases)]


def name_of(name: str, known: Mapping[str, Spec]) -> str:
    """The registered name that an alias, a class's name or another spelling stands for; any other name is given back."""
    return name if name in known else resolved(name, {found.name: found.spellings for found in known.values()})


def units(kind: str) -> dict[str, UnitSpec]:
    """Every registered unit of a kind that is no objective, by name."""
    if kind not in UNITS:
        raise UnknownNameError(f"there are no units of kind {kind!r}{suggestion(kind, UNITS)}; there are {', '.join(UNITS)}")
    _load(kind)
    return {name: found for (of, name), found in sorted(_units.items()) if of == kind}


def list_units(pattern: str = "*", *, kind: str | None = None) -> list[str]:
    """Names of what is registered, sorted: of one kind, or of all of them, objectives included.

    Args:
        pattern: a wildcard such as ``"*sign*"``.
        kind: such as ``"optimizer"``, ``"layer"`` or ``"diagnostic"``.
    """
    names = {name for each in (KINDS if kind is None else (kind,)) for name in (specs() if each == "objective" else units(each))}
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))


@overload
def create(name: str, *, kind: Literal["objective"] = "objective", **parameters: Any) -> "Objective": ...
@overload
def create(name: str, *, kind: str, **parameters: Any) -> Any: ...
def create(name: str, *, kind: str = "objective", **parameters: Any) -> Any:
    """Build an objective by its registered name: ``lossary.create("focal", gamma=3.0)``; or a unit of another kind,
    ``lossary.create("sign_sgd", kind="optimizer", params=model.parameters(), lr=0.01)``."""
    found = _spec_to_build(name, kind)
    allowed = [p.name for p in found.parameters]
    for given in parameters:
        if given not in allowed:
            hint = suggestion(given, allowed) or f"; it takes {', '.join(allowed)}"
            raise InvalidTypeError(f"{found.name}: there is no parameter {given!r}{hint}")
    missing = [p.name for p in found.parameters if p.required and p.name not in parameters]
    if missing:
        raise InvalidTypeError(f"{name}: the parameter {missing[0]!r} has no default and must be given")
    return (found.target if isinstance(found, UnitSpec) else found.cls)(**parameters)


def _spec_to_build(name: str, kind: str) -> Spec | UnitSpec:
    if kind == "objective":
        if name_of(name, specs()) not in specs():
            for other in UNITS:
                if name in units(other):
                    line = units(other)[name].import_line
                    raise UnknownNameError(f"there is no objective named {name!r}, but a unit of kind {other!r}: {line}")
        return spec(name)
    known = units(kind)
    if name not in known:
        raise UnknownNameError(f"there is no {kind} named {name!r}{suggestion(name, known)}")
    if not inspect.isclass(known[name].target):
        raise InvalidTypeError(f"{name}: a function is not built but called, after: {known[name].import_line}")
    return known[name]


def list_objectives(
    pattern: str = "*",
    *,
    family: str | None = None,
    soft_targets: bool | None = None,
    takes: str | Iterable[str] = (),
    proper: bool | None = None,
    decomposable: bool | None = None,
) -> list[str]:
    """Names of the registered objectives, sorted.

    Args:
        pattern: a wildcard such as ``"*focal*"``.
        family, soft_targets, proper, decomposable: keep those whose spec says so.
        takes: keep those with these keyword parameters, for example ``"ignore_index"``.
    """
    family = None if family is None else resolved(family, FAMILIES)
    if family is not None and family not in FAMILIES:
        raise UnknownNameError(
            f"there is no family named {family!r}{suggestion(family, FAMILIES)}; there are {', '.join(FAMILIES)}"
        )
    wanted = (takes,) if isinstance(takes, str) else tuple(takes)
    return [
        name
        for name, found in specs().items()
        if fnmatch.fnmatchcase(name, pattern)
        and (family is None or found.family == family)
        and (soft_targets is None or found.soft_targets == soft_targets)
        and (proper is None or found.proper == proper)
        and (decomposable is None or found.decomposable == decomposable)
        and all(found.takes(parameter) for parameter in wanted)
    ]
