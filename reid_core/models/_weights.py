"""Starting weights from a local file: torchvision's and timm's state dicts, ``.pth`` or safetensors. No network needed.

torchvision and timm give the weights of their ResNets the same names, so no table of names is needed for them; other
families differ between the two, and a file of the other one is refused with the closest names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reid_core.errors import CheckpointError, UsageError

CLASSIFIERS = ("fc", "classifier", "head", "heads")
"""What torchvision and timm call the last layer. A caller adds its own new layers."""

ENOUGH = 0.9
"""Share of the network's entries (classifier and batch counters left out) that a file must have."""

_WRAPPERS = ("module.", "_orig_mod.")
_NESTS = ("state_dict", "model", "model_state_dict", "network")
_PICKLED = (".pth", ".pt", ".bin", ".tar")


@dataclass(frozen=True)
class WeightsReport:
    """What became of every name. All are sorted and the network's own, but ``unexpected``, which are the file's.

    Attributes:
        loaded: copied into the network.
        missing: entries of the network that the file lacks; they keep their initial values.
        mismatched: ``(name, shape in the file, shape in the network)``; they keep their initial values.
        unexpected: entries of the file that the network lacks.
        classifier: entries of the classifier that the file lacks or has for other classes; they stay new.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unexpected: tuple[str, ...]
    classifier: tuple[str, ...]

    def summary(self) -> str:
        """One line for the screen."""
        parts = [f"{len(self.loaded)} weights loaded"]
        if self.classifier:
            parts.append(f"new layers keep their own values ({_some(self.classifier)})")
        if self.missing:
            parts.append(f"{len(self.missing)} not in the file ({_some(self.missing)})")
        if self.mismatched:
            parts.append(f"{len(self.mismatched)} of another shape ({_some([m[0] for m in self.mismatched])})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} in the file not used ({_some(self.unexpected)})")
        return "; ".join(parts)


def load_weights(
    network_state: Mapping[str, Tensor], file: Path, classifier_keys: Iterable[str] = CLASSIFIERS
) -> WeightsReport:
    """Copy the weights in ``file`` into a network.

    ``module.`` and ``_orig_mod.`` before names, nesting under ``state_dict`` or ``model``, and one leading part that
    only one side has (``backbone.``) make no difference. Of a checkpoint of ours, network 0 is taken.

    Args:
        network_state: ``network.state_dict()``; its tensors are written to, cast to their own dtype.
        file: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin``, ``.tar``, of which tensors are read and nothing is run.
        classifier_keys: names, or leading parts of names up to a dot, of layers that may be missing or have another
            shape: they are copied where they fit and else stay as they are.

    Raises:
        CheckpointError: the file cannot be read or holds more than tensors; a weight is NaN or infinite; or fewer than
            ``ENOUGH`` of the network's entries are in it. The network is then untouched.
        UsageError: no such file, or a kind of file that is not known.
    """
    stored = _flat(read_state_dict(file), file)
    heads = {"", *_heads(stored), *_heads(network_state)}
    stored, raw_names = _align(stored, network_state)
    keys = tuple(classifier_keys)

    def is_new(name: str) -> bool:
        written = {n.removeprefix(head) for n in (name, raw_names.get(name, name)) for head in heads}
        return any(n == key or n.startswith(f"{key}.") for key in keys for n in written)

    fits = {n for n, t in network_state.items() if n in stored and stored[n].shape == t.shape}
    own = {n for n in network_state if not is_new(n)}
    report = WeightsReport(
        loaded=tuple(sorted(fits)),
        missing=tuple(sorted(n for n in own if n not in stored)),
        mismatched=tuple(
            (n, tuple(stored[n].shape), tuple(network_state[n].shape)) for n in sorted(own - fits) if n in stored
        ),
        unexpected=tuple(sorted(raw_names[n] for n in stored if n not in network_state and not is_new(n))),
        classifier=tuple(sorted(n for n in network_state if n not in own and n not in fits)),
    )
    _check_enough(report, {n for n in own if not n.endswith("num_batches_tracked")}, file)
    for name in report.loaded:
        if not bool(torch.isfinite(stored[name]).all()):
            raise CheckpointError(f"{file}: weight {raw_names[name]!r} holds NaN or infinity; the file is of no use.")
    with torch.no_grad():
        for name in report.loaded:
            network_state[name].copy_(stored[name])
    return report


def read_state_dict(file: Path) -> Mapping[str, Any]:
    """What a weights file holds: tensors, possibly nested. Nothing in the file is ever run; see ``load_weights``."""
    if not file.is_file():
        raise UsageError(f"--weights: there is no file {file}; give a .safetensors or .pth file, imagenet, or none.")
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{file} is damaged or no safetensors file ({error}); fetch it anew.") from error
    if suffix not in _PICKLED:
        raise UsageError(
            f"--weights: {file} ends in {suffix or 'nothing'!r}; known are .safetensors, {', '.join(_PICKLED)}."
        )
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (
        2,
        10,
    ):  # earlier ones can be made to run code even so (CVE-2026-24747)
        raise CheckpointError(
            f"{file} is only read by PyTorch 2.10 or later, this is {torch.__version__}; use safetensors."
        )
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise a dozen kinds, and a file that wants to run code is one of them
        reason = str(error).split("\n")[0][:200]
        raise CheckpointError(
            f"{file} cannot be read as weights ({type(error).__name__}: {reason}). It is damaged, or holds more than "
            "tensors, which could run code and is never loaded. Where you trust it, save its state dict alone: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), and give that file."
        ) from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file} holds a {type(found).__name__}, not a state dict (names and tensors).")
    return found


def _flat(found: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Tensors by name, out of their nest and wrappers; network 0 of a checkpoint of ours."""
    while not any(isinstance(value, Tensor) for value in found.values()):
        nest = next((found[key] for key in _NESTS if isinstance(found.get(key), Mapping)), None)
        if nest is None:
            raise CheckpointError(
                f"{file} holds no weights: its entries are {_some(map(str, found)) or 'none'}; a state dict, or one "
                f"under {', '.join(_NESTS)}, is expected."
            )
        found = nest
    flat = {}
    for name, value in found.items():
        if isinstance(value, Tensor) and isinstance(name, str):
            while name.startswith(_WRAPPERS):
                name = name.partition(".")[2]
            if value.is_meta or value.is_quantized or value.layout != torch.strided:
                raise CheckpointError(f"{file}: weight {name!r} is quantized, sparse or empty; give ordinary weights.")
            flat[name] = value
    first = {n.removeprefix("net0."): t for n, t in flat.items() if n.startswith("net0.")}
    return first or flat


def _align(stored: dict[str, Tensor], network: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Take off, or put on, the one leading part of names that makes most entries fit.

    Returns:
        The tensors by the network's names, and the file's name for each of those.
    """

    def renamed(name: str, off: str, on: str) -> str:
        return on + name.removeprefix(off) if name.startswith(off) else name

    def fitting(off: str, on: str) -> int:
        pairs = ((renamed(name, off, on), tensor) for name, tensor in stored.items())
        return sum(name in network and network[name].shape == tensor.shape for name, tensor in pairs)

    choices = [("", "")]
    choices += [(off, "") for off in _heads(stored)] + [("", on) for on in _heads(network)]
    choices += [(off, on) for off in _heads(stored) for on in _heads(network)]
    off, on = max(choices, key=lambda choice: fitting(*choice))  # the first of the best: the least renaming
    names = {renamed(name, off, on): name for name in stored}
    return {new: stored[name] for new, name in names.items()}, names


def _heads(names: Iterable[str]) -> list[str]:
    """``backbone.`` and the like: leading parts that at least half of the names share."""
    listed = list(names)
    heads = sorted({name.partition(".")[0] + "." for name in listed if "." in name})
    return [head for head in heads if 2 * sum(name.startswith(head) for name in listed) >= len(listed)]


def _check_enough(report: WeightsReport, needed: set[str], file: Path) -> None:
    found = len(needed & set(report.loaded))
    if needed and found < ENOUGH * len(needed):
        parts = []
        for name in report.missing[:3]:
            near = difflib.get_close_matches(name, report.unexpected, n=1, cutoff=0.5)
            parts.append(f"{name} is not in the file" + (f" (closest: {near[0]})" if near else ""))
        for name, stored, own in report.mismatched[:3]:
            parts.append(f"{name} is {_shape(stored)} in the file, {_shape(own)} in the network")
        raise CheckpointError(
            f"{file} does not fit this network: {found} of its {len(needed)} weights are in the file, at least "
            f"{ENOUGH:.0%} must be. {'; '.join(parts)}. Is it the file of another --arch? Nothing was loaded."
        )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (", ..." if len(listed) > 4 else "")
