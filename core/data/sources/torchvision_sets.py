"""`torchvision:NAME@ROOT`: a data set that torchvision knows, in the shape that torchvision gives it below ROOT.

All splits are read: train, val and test keep their names, a data set without splits has none. Opening never downloads;
`fetch_torchvision` does, through torchvision, where a person asked for it.

Two kinds stand in the tables below. `PACKED` keep many images in a file and are read by `batches.py`, without torch.
`LOOSE` keep a file per image: torchvision lists them and we read the files. A data set that stands in neither is
refused. So is, above all, one whose loader unpickles files that nothing has checked: a pickle runs whatever code it
holds. A test reads torchvision's loaders of everything in `LOOSE` for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.data.sources.base import (
    OUTSIDE,
    ROOTS,
    Opener,
    SourceOptions,
    SourceRows,
    expanded,
    file_error,
    is_outside,
    open_file,
    problems_frame,
    read_file,
    shown,
    text_error,
)
from core.data.sources.batches import Batch, Batches, cifar, idx, lines, stl10
from core.data.sources.lossless import png
from core.errors import InputError

Reader = Callable[[Path, Opener], Batches]
Split = tuple[str | None, Mapping[str, Any]]  # our name, and what torchvision's class is told

PACKED: Mapping[str, Reader] = {
    "MNIST": partial(idx, folder="MNIST"),
    "FashionMNIST": partial(idx, folder="FashionMNIST"),
    "KMNIST": partial(idx, folder="KMNIST"),
    "CIFAR10": partial(cifar, folder="cifar-10-batches-py", labels="labels", names=("batches.meta", "label_names")),
    "CIFAR100": partial(cifar, folder="cifar-100-python", labels="fine_labels", names=("meta", "fine_label_names")),
    "STL10": stl10,
}
CLASSES: Mapping[str, tuple[str, ...]] = {  # of those whose files do not say them, as torchvision names them
    "MNIST": tuple("0123456789"),
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip


def _splits(**names: str) -> tuple[Split, ...]:
    return tuple((ours, {"split": theirs}) for ours, theirs in names.items())


LOOSE: Mapping[str, tuple[Split, ...]] = {
    "Country211": _splits(train="train", val="valid", test="test"),
    "DTD": _splits(train="train", val="val", test="test"),
    "EuroSAT": ((None, {}),),
    "FGVCAircraft": _splits(train="train", val="val", test="test"),
    "Flowers102": _splits(train="train", val="val", test="test"),
    "Food101": _splits(train="train", test="test"),
    "GTSRB": _splits(train="train", test="test"),
    "Imagenette": _splits(train="train", val="val"),
    "OxfordIIITPet": _splits(train="trainval", test="test"),
    "RenderedSST2": _splits(train="train", val="val", test="test"),
    "StanfordCars": _splits(train="train", test="test"),
    "SUN397": ((None, {}),),
}
UPRIGHT = frozenset({"MNIST", "KMNIST", "GTSRB", "RenderedSST2"})  # a mirror would change what they show
UNSAFE = frozenset({"LSUN", "PhotoTour"})  # torchvision loads pickles of theirs that nothing has checked
FRAME = ["row", "sample_id", "filepath", "given_label", "split", "group"]


@dataclass(frozen=True)
class TorchvisionSource:
    """A data set of torchvision as a source. `root` is absolute."""

    name: str
    root: Path
    options: SourceOptions
    opener: Opener = open_file

    @property
    def spec(self) -> str:
        """`torchvision:`, the name, `@` and the absolute path."""
        return f"torchvision:{self.name}@{self.root}"

    @property
    def flip(self) -> bool:
        """Whether a mirror leaves the label true: of letters and digits it does not."""
        return self.name not in UPRIGHT

    def opened_with(self, opener: Opener) -> TorchvisionSource:
        """Return the source with another way to open its files."""
        return replace(self, opener=opener)

    def rows(self) -> SourceRows:
        """List the images of all splits.

        Raises:
            InputError: a file is missing, or not the published one.
        """
        return self._packed_rows if self.name in PACKED else self._loose_rows

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield each image in the order of the files; those without a file of their own as PNG."""
        if self.name in PACKED:
            yield from self._read_packed(ids)
            return
        frame = self.rows().frame
        paths = dict(zip(frame["sample_id"], frame["filepath"], strict=True))
        for sample_id in sorted(set(ids)):
            path = paths.get(sample_id)
            yield sample_id, read_file(path, self.opener) if path else InputError("no such image in the data set")

    def _read_packed(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        wanted = set(ids)
        yield from ((each, InputError("no such image in the data set")) for each in ids if each not in self._at)
        for part in self._batches.parts:
            rows = [(name, at) for name, (batch, at) in self._at.items() if batch is part and name in wanted]
            if not rows:
                continue
            try:
                with self.opener(part.path) as file:
                    for name, at in rows:
                        pixels = part.image(file, at)
                        yield name, pixels if isinstance(pixels, InputError) else png(pixels)
            except (InputError, OSError) as error:
                yield from ((name, InputError(str(error))) for name, _ in rows)

    @cached_property
    def _batches(self) -> Batches:
        return PACKED[self.name](self.root, self.opener)

    @cached_property
    def _at(self) -> dict[str, tuple[Batch, int]]:
        """Return where each image lies, in order: its batch, and its number in there."""
        found, begun = {}, dict[int, int]()
        for split, number, part, _ in lines(self._batches):
            at = begun[id(part)] = begun.get(id(part), -1) + 1
            found[f"{split}/{number:05d}.png"] = (part, at)
        return found

    @cached_property
    def _packed_rows(self) -> SourceRows:
        listed = list(lines(self._batches))
        frame = pd.DataFrame({"row": np.arange(len(listed)), "sample_id": list(self._at), "filepath": ""})
        labels = [None if label is None or label < 0 else str(label) for _, _, _, label in listed]
        frame["given_label"] = pd.Series(labels, dtype=object)
        frame["split"] = pd.Series([split for split, *_ in listed], dtype=object)
        frame["group"] = pd.Series([None] * len(listed), dtype=object)
        return SourceRows(frame, problems_frame(), len(frame), self._batches.classes or CLASSES[self.name])

    @cached_property
    def _loose_rows(self) -> SourceRows:
        real = Path(os.path.realpath(self.root))
        rows: list[tuple[Any, ...]] = []
        problems: list[tuple[str, str, str]] = []
        known: list[tuple[str, ...]] = []
        seen: set[str] = set()
        for split, told in LOOSE[self.name]:
            dataset = _torchvision(self.name, self.root, told, download=False)
            names = _class_names(dataset)
            known += [names] if names else []
            for path, code in _pairs(dataset):
                name = os.path.relpath(path, self.root).replace(os.sep, "/")
                if reason := _refused(path, real) or ("in two splits; the first is kept" if name in seen else None):
                    problems.append((shown(name), shown(path), reason))
                else:
                    label = names[code] if names else str(code)
                    rows.append((len(problems) + len(rows), name, path, label, split, None))
                seen.add(name)
        frame = pd.DataFrame(rows, columns=FRAME, dtype=object)
        frame = frame.assign(row=frame["row"].astype(np.int64))
        return SourceRows(frame, problems_frame(problems), len(rows) + len(problems), _together(known))


def _together(known: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the classes of all splits: in torchvision's order where they agree, sorted where one lacks some."""
    if len(set(known)) <= 1:
        return known[0] if known else None
    return tuple(sorted({name for names in known for name in names}))


def _refused(path: str, root: Path) -> str | None:
    if error := text_error(path):
        return error
    if not Path(os.path.realpath(path)).is_relative_to(root):
        return "a file outside ROOT"
    return file_error(path)


def _pairs(dataset: Any) -> list[tuple[str, int]]:
    """Return (path, class) of a data set of torchvision, wherever its class keeps them."""
    samples = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
    if samples is None:
        images = getattr(dataset, "_image_files", None) or dataset._images
        samples = zip(images, dataset._labels, strict=True)
    pairs = [(os.path.abspath(path), int(code)) for path, code in samples]  # noqa: PTH100 -- links stay as named
    return sorted(pairs) if type(dataset).__name__ == "SUN397" else pairs  # the one that lists in no order


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names in order, the first of each where it has several; None where there are none."""
    names = getattr(dataset, "classes", None)
    if names is None:
        return None
    firsts = tuple(name if isinstance(name, str) else str(name[0]) for name in names)
    return firsts if len(set(firsts)) == len(firsts) else None


def _torchvision(name: str, root: Path, told: Mapping[str, Any], *, download: bool) -> Any:
    from torchvision import datasets  # and with it torch: two seconds that only this needs

    try:
        return getattr(datasets, name)(str(root), download=download, **told)
    except Exception as error:  # each data set raises what it likes where files are missing or damaged
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} cannot be read from {root}: {first} {_advice(name)}") from error


def _advice(name: str) -> str:
    return (
        "Add --download to fetch it, or, on a machine that can, run "
        f"`torchvision.datasets.{name}(ROOT, download=True)` and copy its ROOT here."
    )


def _parsed(rest: str) -> tuple[str, Path]:
    name, at, root = rest.partition("@")
    if name in UNSAFE:
        raise InputError(
            f"torchvision loads {name} from pickles that nothing has checked, and a pickle runs whatever code it "
            "holds. So it is not read. Save its images as files and give folder: or table:."
        )
    if name not in PACKED and name not in LOOSE:
        known = ", ".join(sorted([*PACKED, *LOOSE]))
        raise InputError(f"{name!r} is none of torchvision's data sets that can be read: {known}. Write NAME@ROOT.")
    if not at or not root:
        raise InputError(f"The source torchvision needs a folder. Write, for example, torchvision:{name}@data.")
    return name, Path(os.path.abspath(expanded(root)))  # noqa: PTH100 -- links stay as they were named


def open_torchvision(rest: str, options: SourceOptions) -> TorchvisionSource:
    """Open `torchvision:NAME@ROOT`; the path becomes absolute, so that the spec means the same from any folder."""
    name, root = _parsed(rest)
    if not root.is_dir():
        raise InputError(f"{name} cannot be read: the folder {root} does not exist. {_advice(name)}")
    if is_outside(str(root), os.environ.get(ROOTS, "")):
        raise InputError(f"The source torchvision:{name}@{root} is {OUTSIDE}.")
    return TorchvisionSource(name, root, options)


def fetch_torchvision(rest: str) -> None:
    """Download a data set through torchvision, where it is not there yet.

    Raises:
        InputError: it cannot be downloaded; the message says what to fetch and where to put it.
    """
    from torchvision import datasets

    name, root = _parsed(rest)
    if is_outside(str(root), os.environ.get(ROOTS, "")):
        raise InputError(f"The source torchvision:{name}@{root} is {OUTSIDE}.")
    root.mkdir(parents=True, exist_ok=True)
    if name in LOOSE:
        for _, told in LOOSE[name]:
            _torchvision(name, root, told, download=True)
        return
    packed = getattr(datasets, name)
    dataset = packed.__new__(packed)  # without its constructor, which would load what it fetched
    dataset.root = str(root)
    try:
        dataset.download()
    except Exception as error:  # no network, a server's answer, a full disk
        raise InputError(f"{name} cannot be downloaded: {error}. {_advice(name)}") from error
