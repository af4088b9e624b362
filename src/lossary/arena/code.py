"""A key of the code that a piece of work can reach, so that kept work is used again only while that code is unchanged.

The import statements of a module lead to further modules, also those inside of functions, and so on to the end. Lossary's own
modules are followed, and modules of the user; of installed packages the version counts. Sources are scanned for import
statements by regular expressions: parsing them takes twenty times as long, and a sentence that is mistaken for a statement only
adds a module.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lossary._core.registry import specs
from lossary.errors import LossaryError

# Modules that describe, judge, keep or print, and so cannot change a number.
NOT_MEASURING = (
    "lossary.arena.train.store.",
    "lossary.catalogue.",
    "lossary.claims._claim.",
    "lossary.claims._rules.",
    "lossary.claims._training.",
    "lossary.cli.",
    "lossary.testing.",
)
# Packages whose version counts for everything; of what modules of the user import, any other package's does, too.
NUMERICS = ("numba", "numpy", "sklearn", "torch")
_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}

_FOR_TYPE_CHECKERS = re.compile(r"^if (?:typing\.)?TYPE_CHECKING:[^\n]*\n(?:[ \t]+[^\n]*\n|[ \t]*\n)*", re.MULTILINE)
_STATEMENT = (
    r"[ \t]*(?:from[ \t]+(?P<home>[.\w]+)[ \t]+import[ \t]*(?P<names>\((?:#[^\n]*|[^)#])*\)|(?:\\\n|[^\n;#])+)"
    r"|import[ \t]+(?P<modules>(?:\\\n|[^\n;#])+))"
)
_IMPORTS = re.compile(f"^{_STATEMENT}", re.MULTILINE), re.compile(f"[;:]{_STATEMENT}")  # as one pattern they take thrice as long
_BOUND = re.compile(r"([\w.]+|\*)(?:\s+as\s+(\w+))?")
_STRING = re.compile(r"""["'](\w+)(?=["'(])""")


@dataclass(frozen=True)
class _Import:
    """``import home`` (without a name) or ``from home import name``, and the name that it binds."""

    home: str
    name: str
    bound: str


@dataclass(frozen=True)
class _Source:
    """One file: its digest and what it imports."""

    digest: str
    text: str
    imports: tuple[_Import, ...]


def code_of(*roots: Any) -> str:
    """Digest all code that the roots can reach, and the versions of the installed packages that it uses.

    A registered name that stands as a text in a module that uses ``create`` counts as used. A file that was changed counts as
    changed at once, also in a process that imported it before.

    Args:
        roots: names of modules, functions or classes.
    """
    reached = sorted(modules_of(*roots))
    packages = {*NUMERICS, *(package for module in reached if not _is_lossary(module) for package in _installed(module))}
    lines = [f"{module} {_source_of(module).digest}" for module in reached]
    lines += [f"{package} {_version(package)}" for package in sorted(packages)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def modules_of(*roots: Any) -> set[str]:
    """Names of all modules whose code counts in :func:`code_of`."""
    _looked_for.cache_clear()  # a module may have been written since, or moved
    reached: set[str] = set()
    waiting = [_module_of(root) for root in roots]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += filter(_is_followed, _used_by(module))
    return reached


def _module_of(root: Any) -> str:
    if isinstance(root, str):
        return root
    if isinstance(root, functools.partial):
        return _module_of(root.func)
    return str(getattr(root, "__module__", None) or type(root).__module__)


def _installed(module: str) -> Iterator[str]:
    """Installed packages that a module imports from."""
    for each in _source_of(module).imports:
        if not (_is_followed(each.home) or _is_standard(each.home) or _is_lossary(each.home)):
            yield each.home.partition(".")[0]


def _used_by(module: str) -> Iterator[str]:
    """Names of the modules that a module uses itself."""
    source = _source_of(module)
    if not _is_lossary(module):  # packages of a user run what they say; those of Lossary only list what is below them
        parts = module.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts)))
    creates = False
    for each in source.imports:
        if not _is_followed(each.home):
            continue
        if each.name:
            creates |= each.name == "create"
            yield from _named(each, source)
        else:
            creates |= f"{each.bound}.create" in source.text
            top = each.home.partition(".")[0]
            yield from _at(each.home)
            yield from _below(top if each.bound == top else each.home, each.bound, source)
    if creates:
        registered = specs()
        yield from (registered[word].cls.__module__ for word in set(_STRING.findall(source.text)) & set(registered))


def _named(each: _Import, source: _Source) -> Iterator[str]:
    """Modules behind ``from home import name``."""
    yield from _at(each.home)
    if each.name == "*":
        yield each.home
    elif _decides_by_name(each.home):
        yield from _looked_up(each.home, [each.name])
        yield from _below(f"{each.home}.{each.name}", each.bound, source)


def _at(module: str) -> Iterator[str]:
    """A module, unless what it does is said by the names that are looked up in it."""
    if not (_is_lossary(module) and _decides_by_name(module)):
        yield module


def _below(module: str, bound: str, source: _Source) -> Iterator[str]:
    """Modules behind ``bound.a.b``, wherever a source says so of a module that is bound to a name."""
    if _decides_by_name(module):
        for chain in set(re.findall(rf"\b{re.escape(bound)}((?:\.\w+)+)", source.text)):
            yield from _looked_up(module, chain[1:].split("."))


def _looked_up(module: str, path: list[str]) -> Iterator[str]:
    """Modules behind ``module.a.b``, of which a module may be a part of the path."""
    first, *rest = path
    inner = f"{module}.{first}"
    if _file_of(inner) is None:
        yield from _home_of(importlib.import_module(module), first)
        return
    yield from _at(inner)
    if rest and _decides_by_name(inner):
        yield from _looked_up(inner, rest)


def _home_of(package: ModuleType, name: str) -> Iterator[str]:
    """The module in which something that a package offers is written."""
    value = getattr(package, name, None)
    if inspect.ismodule(value):
        yield value.__name__
    elif inspect.isclass(value) or inspect.isroutine(value):
        yield str(value.__module__)
    elif value is not None:  # a constant does not know where it was made
        assigned = re.compile(rf"^{re.escape(name)}\b[^=\n]*=", re.MULTILINE)
        below = [module for module in list(sys.modules) if module.startswith(f"{package.__name__}.")]
        homes = [module for module in below if getattr(sys.modules[module], name, None) is value and _file_of(module)]
        yield from [module for module in homes if assigned.search(_source_of(module).text)] or [package.__name__]


def _decides_by_name(module: str) -> bool:
    """Whether what a module offers has to be looked up name by name: it is a package, or makes names when they are asked for."""
    file = _file_of(module)
    return file is not None and (file.stem == "__init__" or "\ndef __getattr__" in _source_of(module).text)


def _is_lossary(module: str) -> bool:
    return module.partition(".")[0] == "lossary"


def _is_followed(module: str) -> bool:
    if f"{module}.".startswith(NOT_MEASURING) or _is_standard(module):
        return False
    return _is_lossary(module) or (_is_of_the_user(module.partition(".")[0]) and _file_of(module) is not None)


def _is_of_the_user(top: str) -> bool:
    """Whether a package is neither installed nor part of Python; looking for its top imports nothing."""
    file, loaded = _file_of(top), sys.modules.get(top)
    paths = [file] if file is not None else [Path(each) for each in getattr(loaded, "__path__", ())]
    return bool(paths) and not {"site-packages", "dist-packages"} & set(paths[0].parts)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names and module != "__main__"


def _file_of(module: str) -> Path | None:
    """The file of a module, or None if there is no such module or it has no file."""
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None) if loaded is not None else _looked_for(module)
    return None if file is None else _path(file)


_path = functools.lru_cache(maxsize=4096)(Path)


@functools.cache
def _looked_for(module: str) -> str | None:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # no such package, or a module that is none
        return None
    return found.origin if found is not None and found.has_location else None


def _source_of(module: str) -> _Source:
    file = _file_of(module)
    try:
        if file is None:
            raise FileNotFoundError(module)
        stat = file.stat()
        return _read(module, file, stat.st_mtime_ns, stat.st_size)
    except OSError:
        raise LossaryError(
            f"{module}: its source file cannot be read, so that kept work could not be told from outdated work;"
            " write it into a file that can be imported, or keep nothing (store=None)"
        ) from None


@functools.lru_cache(maxsize=4096)
def _read(module: str, file: Path, changed: int, size: int) -> _Source:
    content = file.read_bytes()
    text = _FOR_TYPE_CHECKERS.sub("", content.decode(errors="replace")) if file.suffix == ".py" else ""
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    return _Source(hashlib.sha256(content).hexdigest(), text, tuple(dict.fromkeys(_imports(text, package))))


def _imports(text: str, package: str) -> Iterator[_Import]:
    for found in (match for pattern in _IMPORTS for match in pattern.finditer(text)):
        home = found["home"]
        listed = re.sub(r"#[^\n]*|[()\\]", "", found["names"] or found["modules"])
        for part in listed.split(","):
            bound = _BOUND.match(part.strip())
            if bound is None:
                continue
            if home is None:
                yield _Import(bound[1], "", bound[2] or bound[1].partition(".")[0])
            else:
                yield _Import(_absolute(home, package), bound[1], bound[2] or bound[1])


def _absolute(home: str, package: str) -> str:
    """The full name of a module that may be named relative to a package."""
    dots = len(home) - len(home.lstrip("."))
    if not dots:
        return home
    above = package.rsplit(".", dots - 1)[0] if dots > 1 else package
    return f"{above}.{home[dots:]}".strip(".")


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:
        return ""
