"""Data sets that keep many images in one file, in the shapes that torchvision downloads: read where they lie.

- `cifar`: CIFAR-10 and CIFAR-100. Their files are pickles, and loading a pickle runs whatever code it holds. So a file
  is read only where its MD5 is the one that torchvision knows, and even then it is not loaded: `pickletools` lists its
  opcodes without running any, and the images lie as plain bytes at a place that the list tells.
- `idx`: MNIST and its kin (two headers and plain bytes).
- `stl10`: plain bytes without any header.

Nothing here needs torch, and of the images only places are held.
"""

from __future__ import annotations

import hashlib
import pickletools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from core.axes import Array, UInt8
from core.data.sources.base import Opener
from core.errors import InputError

# MD5 of the files as their makers publish them: `torchvision.datasets.CIFAR10.train_list` and so on.
CIFAR_MD5: Mapping[str, Mapping[str, str]] = {
    "cifar-10-batches-py": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar-100-python": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}
IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # unsigned bytes in three dimensions, in one
STL_SHAPE = (3, 96, 96)


@dataclass(frozen=True)
class Batch:
    """Images of one split that lie one after another in a file.

    Attributes:
        path: the file, absolute.
        split: train or test.
        labels: the class of each image as a number; None where it has none.
        start: where the first image begins, in bytes.
        shape: of one image as it lies there.
        axes: the order in which `shape` becomes height, width (and colour).
    """

    path: str
    split: str
    labels: Sequence[int | None]
    start: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def image(self, file: BinaryIO, row: int) -> UInt8[Array, "h w"] | UInt8[Array, "h w 3"] | InputError:
        """Return the pixels of one image, 0 to 255, or why not."""
        size = int(np.prod(self.shape))
        file.seek(self.start + row * size)
        data = file.read(size)
        if len(data) < size:
            return InputError("the file has become shorter")
        return np.frombuffer(data, dtype=np.uint8).reshape(self.shape).transpose(self.axes)


@dataclass(frozen=True)
class Batches:
    """All images of a data set, and its class names where the files say them."""

    parts: tuple[Batch, ...]
    classes: tuple[str, ...] | None = None


def cifar(root: Path, opener: Opener, folder: str, labels: str, names: tuple[str, str]) -> Batches:
    """Read the batches of CIFAR-10 or CIFAR-100.

    Args:
        root: holds `folder`.
        opener: opens a file.
        folder: one of `CIFAR_MD5`.
        labels: the key of the labels in a batch.
        names: the file of the class names, and their key in it.

    Raises:
        InputError: a file is missing, or its MD5 is another: then nothing of it is read.
    """
    classes: tuple[str, ...] | None = None
    parts = []
    for name, md5 in CIFAR_MD5[folder].items():
        path = root / folder / name
        data = _checked(path, opener, md5)
        lists = _lists(data)
        if name == names[0]:
            classes = tuple(str(each) for each in lists.get(names[1], ()))
            continue
        codes = [code for code in lists.get(labels, ()) if isinstance(code, int)]
        split = "test" if name.startswith("test") else "train"
        parts.append(Batch(str(path), split, codes, _longest(path, data, 3072 * len(codes)), (3, 32, 32), (1, 2, 0)))
    return Batches(tuple(parts), classes)


def idx(root: Path, opener: Opener, folder: str) -> Batches:
    """Read MNIST, FashionMNIST or KMNIST: four files `train-images-idx3-ubyte` and so on in `folder`/raw.

    Raises:
        InputError: a file is missing, damaged, or still packed.
    """
    parts = []
    for split, start in (("train", "train"), ("test", "t10k")):
        images, labels = (root / folder / "raw" / f"{start}-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
        head, size = _start(images, opener, 16)
        magic, count, height, width = struct.unpack(">4I", head) if len(head) == 16 else (0, 0, 0, 0)
        codes = _whole(labels, opener)
        told = struct.unpack(">2I", codes[:8]) if len(codes) >= 8 else (0, 0)
        if magic != IDX_IMAGES or size != 16 + count * height * width or told != (IDX_LABELS, count):
            raise InputError(f"{images} and {labels.name} do not belong together, or are damaged. Copy them again.")
        if len(codes) != 8 + count:
            raise InputError(f"{labels} is cut short. Copy it again.")
        parts.append(Batch(str(images), split, list(codes[8:]), 16, (height, width), (0, 1)))
    return Batches(tuple(parts))


def stl10(root: Path, opener: Opener) -> Batches:
    """Read STL-10's labelled images: `train_X.bin`, `train_y.bin` and those of test. Its columns come before its rows.

    Raises:
        InputError: a file is missing or cut short.
    """
    parts, folder = [], root / "stl10_binary"
    for split in ("train", "test"):
        images = folder / f"{split}_X.bin"
        _, size = _start(images, opener, 0)
        labels = _whole(folder / f"{split}_y.bin", opener)
        if size != len(labels) * int(np.prod(STL_SHAPE)):
            raise InputError(f"{images} does not hold an image for each of {len(labels):,} labels. Copy it again.")
        parts.append(Batch(str(images), split, [code - 1 for code in labels], 0, STL_SHAPE, (2, 1, 0)))
    names = _whole(folder / "class_names.txt", opener).decode("utf-8", "replace").split()
    return Batches(tuple(parts), tuple(names))


def _whole(path: Path, opener: Opener) -> bytes:
    return _start(path, opener, -1)[0]


def _start(path: Path, opener: Opener, count: int) -> tuple[bytes, int]:
    """Return the first bytes of a file (all of it below 0), and how many there are."""
    try:
        with opener(str(path)) as file:
            data = file.read(count)
            return data, file.seek(0, 2)
    except (InputError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _checked(path: Path, opener: Opener, md5: str) -> bytes:
    """Return a file's bytes where they are the published ones."""
    data = _whole(path, opener)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise InputError(
            f"{path} is not the published file: its MD5 is {found}, it should be {md5}. Such a file may run code when "
            "it is loaded, so nothing of it was read. Download the data set again."
        )
    return data


def _lists(data: bytes) -> dict[str, list[object]]:
    """Return the lists in a pickled dictionary by their keys, from its opcodes; none is carried out.

    A list is EMPTY_LIST and then, a thousand at a time, MARK, its items, APPENDS.
    """
    found: dict[str, list[object]] = {}
    seen: dict[object, object] = {}  # a text that comes twice is written once
    value: object = None
    items: list[object] | None = None
    collects = False
    for code, told, _ in pickletools.genops(data):
        match code.name:
            case "BINPUT" | "LONG_BINPUT":
                seen[told] = value
            case "EMPTY_LIST":
                items = found.setdefault(str(value), [])
            case "MARK":
                collects = items is not None
            case "APPENDS":
                collects = False
            case _:
                value = seen.get(told) if code.name.endswith("BINGET") else told
                if collects and items is not None:
                    items.append(value)
                else:
                    items = None
    return found


def _longest(path: Path, data: bytes, size: int) -> int:
    """Return where the one long string of a pickle begins, which has to be of this size."""
    for code, value, at in pickletools.genops(data):
        if code.name == "BINSTRING" and isinstance(value, str) and len(value) == size and at is not None:
            return at + 5  # the opcode and four bytes of length
    raise InputError(f"{path} does not hold an image for each label. Download the data set again.")


def lines(batches: Batches) -> Iterator[tuple[str, int, Batch, int | None]]:
    """Yield (split, number within the split, batch, label) of every image in order."""
    counts: dict[str, int] = {}
    for part in batches.parts:
        for label in part.labels:
            number = counts.get(part.split, 0)
            counts[part.split] = number + 1
            yield part.split, number, part, label
