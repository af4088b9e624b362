"""Real data for a comparison: scikit-learn's own sets, files of tables and arrays, folders of images, and what is in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn import datasets
from torch.utils.data import Dataset

from lossary._core.names import suggestion
from lossary.arena.data.arrays import as_images, group_codes, plain_target
from lossary.arena.data.columns import check_columns, find_features, group_values, target_values
from lossary.arena.data.from_torch import read_dataset
from lossary.arena.data.images import read_folder
from lossary.arena.data.leaks import leak_notes
from lossary.arena.data.lists import kept_of_classes, kept_of_lists
from lossary.arena.data.npz import read_headers, read_rows
from lossary.arena.data.read import FORMATS, read_table
from lossary.arena.data.sample import MAX_BYTES, MAX_ROWS, choose_lists, choose_rows, picture_bytes, sample_note
from lossary.arena.data.svmlight import SUFFIXES, read_svmlight
from lossary.arena.data.targets import check_several, encode, flags, kind_notes
from lossary.arena.tasks import KINDS, Task
from lossary.errors import DataError, InvalidValueError, UnknownNameError

Array = NDArray[Any]
BUILT_IN = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
    "diabetes": datasets.load_diabetes,
}
FEWEST_ROWS = 20
_FEATURES, _TARGETS = ("features", "X", "x"), ("target", "y", "labels")  # what arrays in an NPZ file are called


@dataclass(frozen=True)
class Data:
    """Rows ready to be split: numbers (with NaN where missing) and words (with None), or images; and the encoded target."""

    name: str
    numbers: Array  # (rows, numeric columns) float64
    words: Array  # (rows, other columns) object
    columns: tuple[str, ...]
    target: Array  # (rows,) int64 classes, float64 values or relevance, or (rows, labels) float64 zeros and ones
    target_name: str
    classes: tuple[str, ...]  # the names of the classes, or of the labels
    task: Task
    notes: tuple[str, ...] = ()
    images: Array | None = None  # (rows, channels, height, width) float32; then there are no numbers and no words
    groups: Array | None = None  # (rows,) int64: rows of one group stay in one part; of a ranking the list of each row
    group_name: str = ""
    source: str = ""  # where it was read from, if it was

    @property
    def rows(self) -> int:
        return len(self.target)

    @property
    def lists(self) -> int:
        """Of a ranking."""
        return 0 if self.groups is None else int(self.groups.max()) + 1

    @property
    def fingerprint(self) -> str:
        """Changes when any value that training can see changes."""
        digest = hashlib.sha256()
        for array in (self.numbers, self.target, self.images, self.groups):
            if array is not None:
                digest.update(repr((array.shape, array.dtype.str)).encode())
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        digest.update("\x1f".join(repr(word) for word in self.words.ravel()).encode())
        digest.update(repr((self.columns, self.target_name, self.classes, self.task, self.groups is None)).encode())
        return digest.hexdigest()[:16]

    def only(self, kept: Array) -> "Data":
        """The same with these rows alone."""
        return replace(
            self,
            numbers=self.numbers[kept],
            words=self.words[kept],
            target=self.target[kept],
            images=None if self.images is None else self.images[kept],
            groups=None if self.groups is None else np.unique(self.groups[kept], return_inverse=True)[1],
        )


def load(
    source: str | Path | Dataset[Any],
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    *,
    group: str | None = None,
    query: str | None = None,
    max_rows: int = MAX_ROWS,
    image_size: int = 32,
    max_bytes: int = MAX_BYTES,
) -> Data:
    """Read a data set by name or path, or from a ``torch.utils.data.Dataset`` of (x, y).

    Args:
        source: a built-in name, a .csv, .parquet, .arrow, .feather or .npz file, a file in SVMlight's (LETOR's) format, a folder
            with one sub-folder of images for each class, or a data set of PyTorch.
        target: the column (or array) to predict; several, as a list or ``"a,b"``, for a multilabel task.
        task: the kind of task, where it is not what the target looks like.
        group: the column (or array) whose equal values must stay in one part, such as a patient; it is no feature.
        query: the column (or array) that names the list of each row, for a ranking; it is no feature.
        max_rows: of more rows than this, a random sample of so many is used; of a ranking, of whole lists.
        image_size: the side length to which image files and Pillow images are brought.
        max_bytes: of more images than these bytes hold, as the numbers that a network sees, a random sample is used.
    """
    if task is not None and task not in KINDS:
        raise UnknownNameError(f"there is no task {task!r}{suggestion(task, KINDS)} (there are {', '.join(KINDS)})")
    if max_rows < FEWEST_ROWS:
        raise InvalidValueError(f"max_rows must be at least {FEWEST_ROWS}, got {max_rows}")
    if max_bytes < 1:
        raise InvalidValueError(f"max_bytes must be at least 1, got {max_bytes}")
    if query is not None and task not in (None, "ranking"):
        raise InvalidValueError(f"--query is for a ranking, got the task {task}")
    if query is not None and group is not None:
        raise InvalidValueError("--group cannot be given with --query, which keeps the rows of a list together already")
    if isinstance(source, Dataset):
        name = type(source).__name__
        _refuse(name, target, group, query, task)
        features, labels, notes = read_dataset(name, source, image_size, max_rows, max_bytes)
        names = getattr(source, "classes", None)
        return _from_read(name, features, labels, task, notes, names if isinstance(names, (list, tuple)) else None)
    found = _load_named(source, target, task, group, query, max_rows, image_size, max_bytes)
    return replace(found, source=str(source) if str(source) in BUILT_IN else str(Path(source).resolve()))


def _load_named(
    source: str | Path,
    target: str | Sequence[str] | None,
    task: str | None,
    group: str | None,
    query: str | None,
    max_rows: int,
    image_size: int,
    max_bytes: int,
) -> Data:
    name, path = str(source), Path(source)
    if name in BUILT_IN:
        _refuse(name, target, group, query, task)
        bunch = BUILT_IN[name]()
        return from_arrays(name, bunch.data, bunch.target, columns=bunch.feature_names, task=task)
    if path.is_dir():
        _refuse(name, target, group, query, task)
        features, labels, notes = read_folder(path, image_size, max_rows, max_bytes)
        return _from_read(path.resolve().name, features, labels, task, notes)
    if path.suffix.lower() in SUFFIXES:
        return _from_svmlight(path, target, task, group, query, max_rows, max_bytes)
    if query is not None:
        task = "ranking"
    if path.suffix.lower() == ".npz":
        return _from_npz(path, target, task, group, query, max_rows, max_bytes)
    if path.suffix.lower() in FORMATS:
        table, rows = read_table(path, max_rows, query)
        return _from_table(path.stem, table, target, task, group, query, sample_note(table.num_rows, rows))
    raise UnknownNameError(
        f"there is no data set named {name!r}{suggestion(name, BUILT_IN)} (there are {', '.join(BUILT_IN)}, any folder of images,"
        f" any .csv, .parquet, .arrow, .feather or .npz file with --target, and any {', '.join(SUFFIXES)} file)"
    )


def _refuse(name: str, target: object, group: object, query: object, task: str | None) -> None:
    reasons = {"target": (target, "has its own target"), "group": (group, "names no groups"), "query": (query, "names no lists")}
    for option, (given, reason) in reasons.items():
        if given is not None:
            raise DataError(f"{name} {reason}, so --{option} cannot be given")
    _refuse_unlisted(name, task, query)


def _refuse_unlisted(name: str, task: str | None, query: object) -> None:
    if task == "ranking" and query is None:
        raise DataError(f"{name}: a ranking needs lists; name the column that says to which one a row belongs with --query")


def _from_read(
    name: str,
    features: Array,
    target: Array,
    task: str | None,
    notes: tuple[str, ...],
    class_names: Sequence[str] | None = None,
) -> Data:
    if features.ndim == 4:
        features = np.moveaxis(features, 1, 3)
    return from_arrays(name, features, target, task=task, class_names=class_names, notes=notes)


def _from_svmlight(
    path: Path, target: object, task: str | None, group: object, query: object, max_rows: int, max_bytes: int
) -> Data:
    lines = read_svmlight(path, max_rows, max_bytes)
    for option, given in (("target", target), ("group", group), ("query", query)):
        if given is not None:
            raise DataError(f"{path}: its lines begin with the target and the qid, so --{option} cannot be given")
    if lines.queries is None and task == "ranking":
        raise DataError(f"{path}: a ranking needs a qid in every line, as in '2 qid:1 1:0.5', and there is none")
    listed = lines.queries is not None and task in (None, "ranking")
    return from_arrays(
        path.stem,
        lines.features,
        lines.target,
        target_name="relevance" if listed else "target",
        columns=[str(number) for number in range(1, lines.features.shape[1] + 1)],
        task="ranking" if listed else task,
        notes=lines.notes,
        groups=lines.queries if listed else None,
        group_name="query" if listed else "",
    )


def _from_npz(
    path: Path,
    target: str | Sequence[str] | None,
    task: str | None,
    group: str | None,
    query: str | None,
    max_rows: int,
    max_bytes: int,
) -> Data:
    _refuse_unlisted(path.name, task, query)
    group = group if query is None else query
    headers = read_headers(path)

    def find(names: Sequence[str], what: str) -> str:
        for name in names:
            if name in headers:
                return name
        raise DataError(f"{path} has no array of {what} named {' or '.join(names)} (it has {', '.join(headers) or 'none'})")

    if target is not None and not isinstance(target, str):
        raise DataError(f"{path}: --target must name one array, which can have several columns, got {list(target)}")
    features, labels = find(_FEATURES, "features"), find(_TARGETS if target is None else (target,), "targets")
    names = [features, labels, *([] if group is None else [find((group,), "groups")])]
    lengths = {headers[name].shape[:1] for name in names}
    if len(lengths) > 1 or () in lengths:
        raise DataError(f"{path}: features, target and groups must have as many rows as each other")
    ((rows,),) = lengths
    shape = headers[features].shape
    sample = choose_rows(rows, max_rows, picture_bytes(shape[1:]) if len(shape) > 2 else 0, max_bytes)
    if query is not None:
        sample = choose_lists(read_rows(path, query, range(rows)), len(sample.rows))
    arrays = {name: read_rows(path, name, sample.rows) for name in names}
    return from_arrays(
        path.stem,
        arrays[features],
        arrays[labels],
        target_name=target or "target",
        task=task,
        notes=sample.notes,
        groups=None if group is None else arrays[group],
        group_name=group or "",
    )


def _from_table(
    name: str,
    table: pa.Table,
    target: str | Sequence[str] | None,
    task: str | None,
    group: str | None,
    query: str | None,
    notes: tuple[str, ...],
) -> Data:
    _refuse_unlisted(name, task, query)
    what = "group" if query is None else "list"
    group = group if query is None else query
    if target is None:
        raise DataError(f"--target must name the column of {name} to predict, one of {', '.join(table.column_names)}")
    targets = _names(target, table)
    check_columns(name, table, [*targets, *([] if group is None else [group])])
    if group in targets:
        raise DataError(f"{name}: the column {group!r} cannot be the target and the {what}")
    for column, what in [*((column, "a target") for column in targets), *([] if group is None else [(group, f"a {group}")])]:
        known = pc.is_valid(table[column])
        missing = table.num_rows - int(pc.sum(known).as_py() or 0)
        if missing:
            table = table.filter(known)
            notes = (*notes, f"{missing} rows without {what} were left out")
    _check_rows(name, table.num_rows)
    features = find_features(name, table, {*targets, *([] if group is None else [group])})
    values = [target_values(name, column, table[column]) for column in targets]
    if len(targets) > 1:
        check_several(name, len(targets), task)
        values = [flags(name, column, one) for column, one in zip(targets, values, strict=True)]
    empty = np.empty((table.num_rows, 0))
    return from_arrays(
        name,
        np.stack(list(features.numbers.values()), 1) if features.numbers else empty,
        values[0] if len(values) == 1 else np.stack(values, axis=1),
        words=np.stack(list(features.words.values()), 1) if features.words else None,
        columns=[*features.numbers, *features.words],
        target_name=", ".join(targets),
        class_names=targets if len(targets) > 1 else None,
        task=task,
        notes=(*notes, *features.notes),
        groups=None if group is None else group_values(name, group, table[group]),
        group_name=group or "",
    )


def _names(target: str | Sequence[str], table: pa.Table) -> list[str]:
    if not isinstance(target, str):
        names = list(target)
    elif target in table.column_names:  # a name may have a comma in it
        names = [target]
    else:
        names = [name.strip() for name in target.split(",")]
    if not names or len(set(names)) < len(names):
        raise DataError(f"--target must name different columns, got {', '.join(names) or 'none'}")
    return names


def _check_rows(name: str, rows: int) -> None:
    if rows < FEWEST_ROWS:
        raise DataError(f"{name} has {rows} rows with a target; a comparison needs at least {FEWEST_ROWS}")


def from_arrays(
    name: str,
    numbers: Array,
    target: Array,
    *,
    words: Array | None = None,
    columns: Sequence[str] | None = None,
    target_name: str = "target",
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    notes: tuple[str, ...] = (),
    groups: Array | None = None,
    group_name: str = "",
) -> Data:
    """Data from arrays in memory.

    Args:
        name: what to call the data set.
        numbers: features (rows, columns), or images (rows, height, width) or (rows, height, width, channels).
        target: (rows,), or (rows, labels) of zeros and ones.
        words: further features that are text (rows, columns), with None where missing.
        columns: the names of the features, those of ``words`` last.
        target_name: what to call the target.
        class_names: of the labels, or of classes that are numbered from 0.
        task: the kind of task, where it is not what the target looks like.
        notes: what a reader of the report should know.
        groups: (rows,) values of which equal ones stay in one part; of a ranking, which needs them, the list of each row.
        group_name: what to call a group.
    """
    numbers, target = np.asarray(numbers), plain_target(name, np.asarray(target))
    if numbers.ndim not in (2, 3, 4) or target.ndim not in (1, 2) or len(numbers) != len(target):
        raise DataError(f"{name}: features must be (rows, columns) and the target (rows,), got {numbers.shape} and {target.shape}")
    if numbers.dtype.kind not in "biufO":
        raise DataError(f"{name}: features must be numbers, got {numbers.dtype}")
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    _check_rows(name, len(target))
    images = as_images(name, numbers) if numbers.ndim > 2 else None
    try:
        numbers = np.empty((len(target), 0)) if images is not None else np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name}: features must be numbers; text goes into words") from None
    words = np.empty((len(target), 0), dtype=object) if words is None else np.asarray(words, dtype=object)
    if words.ndim != 2 or len(words) != len(target):
        raise DataError(f"{name}: words must be ({len(target)}, columns), got {words.shape}")
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    encoded, classes, found = encode(name, target_name, target, task, class_names)
    notes = (*notes, *kind_notes(target_name, target, task, found.kind))
    if images is None and numbers.shape[1] + words.shape[1] == 0:
        raise DataError(f"{name} has no column besides the target {target_name!r} that can be used")
    width = numbers.shape[1] + words.shape[1]
    names = [f"x{i}" for i in range(width)] if columns is None else columns
    if len(names) != width:
        raise DataError(f"{name}: there are {width} columns and {len(names)} names for them")
    codes = None if groups is None else group_codes(name, np.asarray(groups), len(target))
    kept = None
    if found.kind == "ranking":
        _refuse_unlisted(name, "ranking", codes)
        if images is not None or codes is None:
            raise DataError(f"{name}: the items of a ranking must be rows of a table, got images")
        kept, more = kept_of_lists(name, target_name, codes, encoded)
        notes = (*notes, *more)
    elif codes is not None and codes.max() < 2:
        raise DataError(
            f"{name}: {group_name or 'groups'} must have at least 3 values, one each for training, validation and test, got"
            f" {codes.max() + 1}"
        )
    elif found.kind == "retrieval":
        kept, more = kept_of_classes(name, encoded, codes, group_name)
        notes = (*notes, *more)
    elif codes is None:
        notes = (*notes, *leak_notes(encoded, found.kind, numbers, words, names, images))
    else:
        if np.ptp(np.bincount(codes)):
            rows = f"rows of one {group_name or 'group'} stay together and groups differ in size"
            notes = (*notes, f"{rows}, so each part is cut by chance to the size that it has in the smallest of the seeds' splits")
    made = Data(name, numbers, words, tuple(names), encoded, target_name, classes, found, notes, images, codes, group_name)
    return made if kept is None else made.only(kept)
