"""CIFAR-10 with the labels that people gave it, as `reproduce` needs it: chosen rows, pixels, given and true labels.

A folder holds the labels in `cifar10n_labels.npz` (arrays `clean`, `worse`, `aggre` … of 50,000) and the images either
as `cifar10_train.parquet` and `cifar10_test.parquet` or as torchvision keeps them (`cifar-10-batches-py`). Nothing of
it is part of this package; `WHERE` says where it comes from.

10,000 rows are 1,000 of each true class, drawn with seed 0; 1,000 others, 100 of each, are held out with their given
labels. All 10,000 test images, with their true labels, are the test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from core.axes import Array, Int, Integer, UInt8
from core.data.images import decode, read_decoded
from core.data.sources import Source, open_source
from core.errors import InputError
from core.progress import Progress

SIDE, CLASSES = 32, 10
HELD_OUT = 100  # of each class, at most a tenth of what is trained on
LABEL_FILE, BATCHES = "cifar10n_labels.npz", "cifar-10-batches-py"
PARQUET = {"train": "cifar10_train.parquet", "test": "cifar10_test.parquet"}
TRUTH = "clean"
WHERE = (
    f"The folder needs {LABEL_FILE} (arrays clean, worse, aggre; CIFAR-10N has them at noisylabels.com as clean_label, "
    f"worse_label, aggre_label; write them with numpy.savez) and the images: {PARQUET['train']} and {PARQUET['test']} "
    "(columns image and label, in the original order) or what torchvision.datasets.CIFAR10(FOLDER, download=True) keeps"
)


@dataclass(frozen=True)
class Cifar10N:
    """The rows of one reproduction.

    Attributes:
        ids: of the training rows, then the held-out ones, then the test images.
        pixels: in that order.
        truth: true labels of all of them.
        given: by kind of labels, those of training and held-out rows; the test images keep the true ones.
        trained: how many rows are trained on, they come first; `held_out` come after them.
        held_out: see `trained`.
    """

    ids: tuple[str, ...]
    pixels: UInt8[Array, "n side side 3"]
    truth: Int[Array, " n"]
    given: Mapping[str, Int[Array, " n"]]
    trained: int
    held_out: int

    @property
    def test(self) -> Int[Array, " m"]:
        """Positions of the test images."""
        return np.arange(self.trained + self.held_out, len(self.ids))


def read_cifar10n(folder: Path, kinds: tuple[str, ...], rows: int, progress: Progress) -> Cifar10N:
    """Read the labels, choose the rows and decode their images.

    Args:
        folder: holds what `WHERE` names.
        kinds: arrays of the label file.
        rows: to train on.
        progress: who is told.

    Raises:
        InputError: a file is missing or damaged, holds no such labels, or labels and images do not belong together.
    """
    labels = _labels(folder, kinds)
    sources = {split: _source(folder, split) for split in PARQUET}
    ids = {split: _ids(source, split) for split, source in sources.items()}
    told = {split: _codes(source, split) for split, source in sources.items()}
    if len(labels[TRUTH]) != len(told["train"]) or (labels[TRUTH] != told["train"]).any():
        raise InputError(
            f"The array 'clean' of {folder / LABEL_FILE} does not hold the labels of the training images in {folder}. "
            "Give both in the original order of CIFAR-10."
        )
    train, held_out = chosen(labels[TRUTH], rows)
    test = np.arange(len(told["test"]))
    some, places = np.concatenate([train, held_out]), np.argsort(np.concatenate([train, held_out]))
    pixels = np.empty((len(some) + len(test), SIDE, SIDE, 3), np.uint8)
    pixels[places] = _decoded(sources["train"], [ids["train"][row] for row in some[places]], progress)
    pixels[len(some) :] = _decoded(sources["test"], ids["test"], progress)
    given = {kind: np.concatenate([labels[kind][some], told["test"]]) for kind in kinds}
    truth = np.concatenate([labels[TRUTH][some], told["test"]])
    named = (*(f"{row:08d}" for row in some), *(f"test-{row:08d}" for row in test))
    return Cifar10N(named, pixels, truth, given, len(train), len(held_out))


def chosen(clean: Integer[Array, " n"], rows: int) -> tuple[Int[Array, " _"], Int[Array, " _"]]:
    """Return the positions to train on and to hold out, both in order: as many of each true class, by seed 0.

    Where the rows are all that there are, the held-out ones are taken from them.

    Raises:
        InputError: there are not so many rows, or too few to have two of each class.
    """
    generator, per_class = np.random.default_rng(0), rows // CLASSES
    out = max(1, min(HELD_OUT, per_class // 10))
    smallest = int(np.bincount(clean, minlength=CLASSES).min())
    if not 2 <= per_class <= smallest:
        raise InputError(f"{rows:,} rows were asked for; give {2 * CLASSES} to {CLASSES * smallest:,}.")
    take = min(per_class, smallest - out)
    drawn = [generator.choice(np.flatnonzero(clean == c), take + out, replace=False) for c in range(CLASSES)]
    train, held_out = np.concatenate([d[:take] for d in drawn]), np.concatenate([d[take:] for d in drawn])
    return np.sort(train), np.sort(held_out)


def _labels(folder: Path, kinds: tuple[str, ...]) -> dict[str, Int[Array, " n"]]:
    path = folder / LABEL_FILE
    if not path.is_file():
        raise InputError(f"{folder} has no {LABEL_FILE}. {WHERE}.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}). {WHERE}.") from error
    for kind in (TRUTH, *kinds):
        if kind not in arrays:
            raise InputError(f"{path} has no labels {kind!r}, only {', '.join(arrays) or 'none'}. Choose one of them.")
        codes = arrays[kind]
        if codes.ndim != 1 or codes.dtype.kind not in "iu" or not np.isin(codes, np.arange(CLASSES)).all():
            raise InputError(f"The labels {kind!r} in {path} are not whole numbers from 0 to {CLASSES - 1}. {WHERE}.")
        if len(codes) != len(arrays[TRUTH]):
            raise InputError(f"{path} has {len(codes):,} labels {kind!r} and {len(arrays[TRUTH]):,} of 'clean'.")
    return {kind: arrays[kind].astype(np.int64) for kind in (TRUTH, *kinds)}


def _source(folder: Path, split: str) -> Source:
    if (folder / PARQUET[split]).is_file():
        return open_source(f"table:{folder / PARQUET[split]}")
    if (folder / BATCHES).is_dir():
        return open_source(f"torchvision:CIFAR10@{folder}")
    raise InputError(f"{folder} has neither {PARQUET[split]} nor {BATCHES}. {WHERE}.")


def _ids(source: Source, split: str) -> list[str]:
    frame = source.rows().frame
    return list(frame.loc[_of(source, split), "sample_id"])


def _codes(source: Source, split: str) -> Int[Array, " _"]:
    told = source.rows()
    names = {name: code for code, name in enumerate(told.classes or ())}
    texts = told.frame.loc[_of(source, split), "given_label"]
    return np.array([names[text] if text in names else int(text) for text in texts], np.int64)


def _of(source: Source, split: str) -> Array:
    """Which rows of a source are of a split; a file of one split says nothing of it."""
    splits = source.rows().frame["split"]
    return np.asarray(splits.isna() | (splits == split), dtype=bool)


def _decoded(source: Source, ids: list[str], progress: Progress) -> UInt8[Array, "n side side 3"]:
    """Return the images in the order of `ids`."""
    place = {sample: row for row, sample in enumerate(ids)}
    pixels = np.empty((len(ids), SIDE, SIDE, 3), np.uint8)
    for sample, found in read_decoded(source, ids, lambda data: decode(data, SIDE), "reading images", progress):
        if isinstance(found, InputError):
            raise InputError(f"Image {sample} cannot be read: {found}. {WHERE}.")
        pixels[place[sample]] = found
    return pixels
