"""State: what a loss carries from one place to another, and that it leaves nothing behind."""

import ast
import copy
import io
import pickle
import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from lossary.testing._relations import settings
from lossary.testing._subject import Failed, Subject, agree, call


def _alike(what: str, subject: Subject, loss: nn.Module, other: nn.Module) -> None:
    batch = subject.batch(6, loss=loss)
    agree(what, call(other, batch), call(loss, batch), rtol=0, atol=0)


def state_dict_round_trip(subject: Subject) -> str:
    """The state of one instance, saved and loaded into a fresh one, gives the same loss: tensors travel in ``state_dict``."""
    for setting in settings(subject):
        loss = subject.make(**setting)
        names = [name for name in setting if isinstance(setting[name], Tensor)]
        other = replace(subject, seed=subject.seed + 1)  # with random weights of its own, or another memory, it starts from others
        fresh = other.make(**{**setting, **{name: torch.ones_like(setting[name]) for name in names}})
        for name in names:
            if name not in loss.state_dict():
                raise Failed(f"{name} is not in state_dict")
        file = io.BytesIO()
        torch.save(loss.state_dict(), file)
        file.seek(0)
        fresh.load_state_dict(torch.load(file, weights_only=True))
        _alike(f"loaded state with {list(setting) or 'defaults'}", subject, loss, fresh)
    kinds = {name for name, value in subject.make().state_dict().items() if isinstance(value, Tensor)}
    return f"{len(kinds)} tensors by default"


def pickle_and_copy_round_trips(subject: Subject) -> str:
    """Pickled and deep-copied instances give the same loss."""
    for setting in settings(subject):
        loss = subject.make(**setting)
        _alike("deep copy", subject, loss, copy.deepcopy(loss))
        try:
            restored = pickle.loads(pickle.dumps(loss))
        except Exception as error:
            raise Failed(f"it cannot be pickled: {type(error).__name__}: {error}") from error
        _alike("pickled copy", subject, loss, restored)
    return "pickle and deepcopy"


_SHORTENED = re.compile(r"<\(.*?>")


def repr_shows_parameters(subject: Subject) -> str:
    """``repr`` is the call that builds the loss: class name and every parameter with a value that can be read back.

    Of more than ten numbers it shows the shape, the first and the last.
    """
    spec = subject.need_spec("the form of repr is a rule for registered objectives")
    for setting in settings(subject):
        loss = subject.make(**setting)
        try:
            node = ast.parse(_SHORTENED.sub("'shortened'", repr(loss)), mode="eval").body
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != spec.cls.__name__ or node.args:
                raise Failed(f"repr is not {spec.cls.__name__}(name=value, ...): {loss!r}")
            shown = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
        except (SyntaxError, ValueError) as error:
            raise Failed(f"repr cannot be read back: {loss!r}") from error
        for parameter in spec.parameters:
            if parameter.name not in shown:
                raise Failed(f"repr does not show {parameter.name}: {loss!r}")
            wanted = {**spec.defaults, **subject.required, **subject.given, **subject.named(setting)}.get(parameter.name)
            if isinstance(wanted, Tensor) and wanted.numel() > 10:
                if f"{parameter.name}=<{tuple(wanted.shape)}: {wanted.flatten()[0]:.6g}, " not in repr(loss):
                    raise Failed(f"repr does not show the shape and the first number of {parameter.name}: {loss!r}")
                continue
            wanted = wanted.tolist() if isinstance(wanted, Tensor) else wanted
            if shown[parameter.name] != (
                tuple(wanted) if isinstance(shown[parameter.name], tuple) and isinstance(wanted, list) else wanted
            ):
                raise Failed(f"repr shows {parameter.name}={shown[parameter.name]!r} instead of {wanted!r}")
    return repr(subject.make())


def _surroundings() -> dict[str, object]:
    return {
        "the random state": torch.get_rng_state().tolist(),
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "the number of threads": torch.get_num_threads(),
    }


def leaves_no_trace(subject: Subject) -> str:
    """The caller's tensors, and torch's random state, gradient mode, default dtype and autocast, are left as they were."""
    before = _surroundings()
    try:
        for setting in settings(subject):
            for kind in subject.kinds:
                _leaves_no_trace(subject, setting, kind)
    finally:
        _restore(before)
    return "with gradients, under no_grad and under inference_mode"


def _leaves_no_trace(subject: Subject, setting: dict[str, Tensor], kind: str) -> None:
    batch = subject.batch(6, kind=kind, loss=subject.make(**setting))
    if subject.takes("ignore_index") and "ignore_index" not in subject.given and kind != "soft":
        batch.target[1] = -100  # what a careless program overwrites
    tensors = {**batch.tensors, **setting}
    kept = {name: value.clone() for name, value in tensors.items() if isinstance(value, Tensor)}
    modes = {"with gradients": None, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    for name, mode in modes.items():
        loss = subject.make(**setting)
        if mode is None:
            before = _surroundings()
            leaves = {leaf: batch[leaf].detach().requires_grad_() for leaf in batch.leaves}
            value = loss(*batch.changed(leaves).arguments, **batch.changed(leaves).sides)
            after = _surroundings()
            value.sum().backward()
        else:
            with mode():
                before = _surroundings()
                value = loss(*batch.arguments, **batch.sides)
                after = _surroundings()
            if value.requires_grad:
                raise Failed(f"under {name} the loss carries a gradient all the same")
        for what in before:
            if before[what] != after[what] and not (subject.stochastic and what == "the random state"):
                raise Failed(f"{name}: {what} is changed")
        for what in kept:
            if not torch.equal(tensors[what], kept[what]):
                raise Failed(f"{name}: {what} is changed in place")
        for what, tensor in batch.tensors.items():
            if tensor.requires_grad or tensor.grad is not None:
                raise Failed(f"{name}: {what} has become part of the graph")


def _restore(before: dict[str, object]) -> None:
    """Undo what a faulty loss has done, so that it does not spoil the checks after this one."""
    torch.set_rng_state(torch.tensor(before["the random state"], dtype=torch.uint8))
    torch.set_grad_enabled(bool(before["gradient mode"]))
    dtype = before["the default dtype"]
    if isinstance(dtype, torch.dtype):
        torch.set_default_dtype(dtype)
