"""Weights from a file, read so that nothing in it can run.

`read_weights` takes safetensors and what `torch.save` writes (its restricted reader, `weights_only=True`), finds the
state dict in whatever a training script wrapped it in, and refuses files that hold code. `named_for` removes the
prefixes that wrappers leave, `fit_weights` puts the result into a network and says which keys and shapes differ where
it does not fit.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from core.data.sources.base import file_error
from core.errors import ModelError

SAVE = "Where you trust it, load it and save its weights alone: torch.save(model.state_dict(), 'weights.pt')."
# Under which key training scripts keep the weights, the likelier first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module",
    "checkpoint", "state_dict_ema", "ema_state_dict", "model_ema", "ema",
)  # fmt: skip
PREFIXES = ("", "module.", "model.", "net.", "network.", "backbone.", "encoder.", "model.module.", "module.model.")
# What checkpoints hold beside weights that is no code: read as nothing at all (`_Inert`), never as what it names.
SETTINGS = (
    "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "numpy.dtype",
    "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
)  # fmt: skip
COUNTER = ".num_batches_tracked"  # of a batch normalisation: old checkpoints lack it, and evaluation does not use it
# What a file is that is no weights, told by its first bytes.
OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the weights themselves; run `git lfs pull`",
    b"\x89HDF": "an HDF5 file, as Keras writes them; convert the weights to safetensors",
    b"GGUF": "a GGUF file; convert the weights to safetensors",
    b"\x93NUMPY": "a single numpy array; save the state dict as safetensors",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"<": "a web page, not weights; download it again",
}


@dataclass(frozen=True)
class Weights:
    """Tensors by name as the file holds them (wrappers opened, prefixes not yet removed), and what must be said."""

    name: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


class Misfit(ModelError):
    """Weights whose keys or shapes are not the network's; whoever knows what was asked for says what to do."""


class _Inert:
    """Stands for a harmless object in a checkpoint: takes what it was made from and keeps nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_weights(path: Path) -> Weights:
    """Read a file of weights; optimiser states and the like in it are passed over.

    Raises:
        ModelError: no such file, no weights in it, damaged, or it holds code; the message says what to do.
    """
    if reason := file_error(path):
        raise ModelError(f"The weights {path} cannot be read: {reason}. Check the path.")
    try:
        with path.open("rb") as file:
            start = file.read(512)
        held = _safetensors(path) if _is_safetensors(start) else _saved_by_torch(path, start)
    except MemoryError as error:
        raise ModelError(f"{path} does not fit into memory. Save its weights alone, as safetensors.") from error
    except OSError as error:
        raise ModelError(f"The weights {path} cannot be read ({error.strerror or error}). Check the file.") from error
    tensors, notes = state_dict_in(held, path.name)
    return Weights(path.name, tensors, notes)


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 9 and start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= 100_000_000


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return parse_safetensors(path.read_bytes())
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error


def _saved_by_torch(path: Path, start: bytes) -> object:
    """Return what `torch.save` wrote, by the reader that makes tensors and plain containers and nothing else."""
    if not start:
        raise ModelError(f"{path} is empty. Save the weights again.")
    if other := next((what for sign, what in OTHERS.items() if start.startswith(sign)), None):
        raise ModelError(f"{path} is {other}.")
    if start.startswith(b"PK"):
        _check_archive(path)
    elif not start.startswith(b"\x80\x02"):
        what = "a pickle that torch.save did not write" if start.startswith(b"\x80") else "no file of weights"
        raise ModelError(f"{path} is {what}, so it is not opened: pickles can hold code. {SAVE}")
    harmless = [(_Inert, name) for name in SETTINGS]
    try:
        with torch.serialization.safe_globals(harmless), warnings.catch_warnings():  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # about pickle protocols, addressed to whoever wrote the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a damaged file makes the reader raise nearly every type there is
        raise _holds_code(path, error) or _damaged(path, error) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _damaged(path, error) from error
    names = [entry.filename for entry in entries]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise ModelError(f"{path} holds code (a TorchScript program), so it is not opened. {SAVE}")
    if not any(name.endswith("data.pkl") for name in names):
        raise ModelError(f"{path} is an archive that torch.save did not write. {SAVE}")
    if sum(entry.file_size for entry in entries) > 2 * path.stat().st_size + 2**20:
        raise ModelError(f"{path} would unpack to many times its size, which no weights do, so it is not opened.")


def _holds_code(path: Path, error: Exception) -> ModelError | None:
    """Return the refusal of a file that names functions or classes, which loading it would have called."""
    found = re.findall(r"GLOBAL ([\w.]+)", str(error))
    if not found:
        return None
    named = found[0].rstrip(".")
    return ModelError(
        f"{path} holds more than weights: loading it would call {named}, and such a file can run any code. "
        f"It was not loaded. {SAVE}"
    )


def _damaged(path: Path, error: Exception) -> ModelError:
    why = " ".join(str(error).split())[:120] or type(error).__name__
    return ModelError(f"{path} is cut short or damaged ({why}). Save or copy the weights again.")


def state_dict_in(held: object, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Find the state dict in what a file holds, whatever a training script wrapped it in.

    Raises:
        ModelError: there is none, or there are several and nothing tells which.
    """
    path: list[str] = []
    while isinstance(held, Mapping):
        inner = {key: value for key, value in held.items() if isinstance(key, str) and _holds_tensors(value)}
        tensors = {key: value.detach() for key, value in _strings(held) if isinstance(value, Tensor)}
        chosen = next((key for key in WRAPPERS if key in inner), None)
        chosen = chosen or (next(iter(inner)) if len(inner) == 1 and not tensors else None)
        if chosen is None:
            if tensors and not inner:
                note = f"{name}: the weights are those in its entry {'.'.join(path)}." if path else ""
                return tensors, (note,) if note else ()
            raise _no_weights(name, held, inner)
        held = held[chosen]
        path.append(chosen)
    raise _no_weights(name, held, {})


def _strings(held: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    return ((key, value) for key, value in held.items() if isinstance(key, str))


def _holds_tensors(value: object, depth: int = 3) -> bool:
    """Whether a mapping with text keys holds a tensor somewhere (an optimiser's state has numbers for keys)."""
    if not isinstance(value, Mapping) or depth == 0:
        return False
    return any(isinstance(item, Tensor) or _holds_tensors(item, depth - 1) for _, item in _strings(value))


def _no_weights(name: str, held: object, inner: Mapping[str, object]) -> ModelError:
    if inner:
        return ModelError(f"{name} holds several sets of weights ({_some(inner)}). {SAVE}")
    what = f"only {_some(map(str, held))}" if isinstance(held, Mapping) and held else f"a {type(held).__name__}"
    return ModelError(f"{name} holds no weights by name, but {what}. {SAVE}")


def named_for(targets: Iterable[str], weights: Weights) -> Weights:
    """Return the weights under a network's own names: wrappers' prefixes removed, what lies beside them left out.

    Args:
        targets: the names in the network's state dict.
        weights: as read.

    Raises:
        ModelError: the file holds several networks, and nothing tells which is meant.
    """
    tensors = {name.replace("_orig_mod.", ""): value for name, value in weights.tensors.items()}
    wanted, counts = set(targets), Counter[str]()
    for name in tensors:
        cuts = [0, *(place + 1 for place, sign in enumerate(name) if sign == ".")]
        counts.update(name[:cut] for cut in cuts if name[cut:] in wanted)
    best = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    if not best:
        return replace(weights, tensors=tensors)
    prefix = best[0] if len(best) == 1 else next((known for known in PREFIXES if known in best), None)
    if prefix is None:
        raise ModelError(f"{weights.name} holds several networks ({_some(best)}). Save the weights of one alone.")
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    beside = [name for name in tensors if not name.startswith(prefix)]
    note = f"{weights.name}: the network is what its names call {prefix}*; left out: {_some(beside)}."
    return replace(weights, tensors=found, notes=weights.notes + ((note,) if beside else ()))


def fit_weights(network: nn.Module, weights: Weights, what: str) -> tuple[str, ...]:
    """Copy the weights into a network; return what must be said.

    Args:
        network: left as it was where an error is raised.
        weights: as read, wrappers' prefixes and all.
        what: the network's name, for messages.

    Raises:
        Misfit: keys are missing or too many, or shapes differ; the message names them.
        ModelError: values are not finite.
    """
    targets = {name: tensor.shape for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    weights = named_for(targets, weights)
    tensors = weights.tensors
    missing = [name for name in targets if name not in tensors and not name.endswith(COUNTER)]
    unknown = [name for name in tensors if name not in targets]
    shapes = [
        f"{name} ({_shape(tensors[name].shape)} in the file, {_shape(shape)} in the network)"
        for name, shape in targets.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if missing or unknown or shapes:
        raise _misfit(weights.name, what, missing, unknown, shapes)
    _check_finite(weights)
    network.load_state_dict(dict(tensors), strict=False)
    return weights.notes


def _misfit(name: str, what: str, missing: list[str], unknown: list[str], shapes: list[str]) -> Misfit:
    parts = (("Of another shape", shapes), ("Missing in the file", missing), ("In the file alone", unknown))
    differing = ". ".join(f"{text}: {_some(keys)}" for text, keys in parts if keys)
    return Misfit(f"{name} does not fit {what}. {differing}.")


def _check_finite(weights: Weights) -> None:
    for name, tensor in weights.tensors.items():
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise ModelError(
                f"{weights.name} holds values that are not finite: {bad:,} of {tensor.numel():,} in {name}. "
                "The training that wrote it broke down. Take an earlier checkpoint."
            )


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _some(names: Iterable[str], shown: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")
