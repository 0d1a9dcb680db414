"""What a source holds, before a project is made: rows only, no image but a handful of samples.

    found = preview("folder:pets", roots)
    sample_images(found)                   # {"cat/1.png": WebP bytes, …}

The rows, labels and splits are those that `Manifest.read` would make; only the images are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.chance import sample_keys, uniform
from core.data.manifest import check_enough, check_settings, labelled, split_rows
from core.data.sources import SourceOptions, open_source
from core.data.sources.base import OUTSIDE, file_error
from core.data.sources.labels import read_classes, split_column
from core.data.thumbs import thumb
from core.errors import InputError
from core.pictures import Guarded
from core.roots import Roots

SAMPLES = 6  # of a class
CLASSES_SHOWN = 40  # classes of which images are read
PROBLEMS_SHOWN = 50
COLUMNS = ("id_column", "label_column", "path_column", "split_column", "group_column")


@dataclass(frozen=True)
class SourceField:
    """One field of the form for a kind of source."""

    key: str
    label: str
    help: str
    required: bool = False


_LABELS = (
    SourceField("labels", "Labels from another file", "A CSV, Parquet, JSON Lines, .npy or .npz file; FILE:COLUMN."),
    SourceField("classes", "Class names", "A text file with one name per line, in the order of the numbers."),
)
SOURCE_FIELDS: Mapping[str, tuple[SourceField, ...]] = {
    "digits": (),
    "pictograms": (),
    "folder": (
        SourceField("path", "Folder", "The folder that holds one folder per class, or images and metadata.csv.", True),
        *_LABELS,
    ),
    "table": (
        SourceField("path", "File", "A CSV, TSV, Parquet or JSON Lines file with one row per image.", True),
        SourceField("path_column", "Column of the image", "Its path, or the image itself."),
        SourceField("label_column", "Column of the label", "A name or a number."),
        SourceField("id_column", "Column of the id", "Without one, the path or the row's number."),
        SourceField("split_column", "Column of the split", "train, val or test."),
        SourceField("group_column", "Column of the group", "What the images have in common besides the label."),
        *_LABELS,
    ),
}


@dataclass(frozen=True)
class Preview:
    """What a source holds.

    Attributes:
        spec: the source with its path resolved.
        images: rows that can be used as far as can be told without opening the images.
        classes: per class, in order: `name`, `count`, `samples` (up to 6 ids).
        problems: how many rows were set aside.
        problem_rows: the first 50 of them: `sample_id`, `filepath`, `reason`.
        splits: how many rows each split has.
        source: the source, guarded, with the files of the samples.
    """

    spec: str
    images: int
    classes: tuple[dict[str, Any], ...]
    problems: int
    problem_rows: tuple[dict[str, str], ...]
    splits: Mapping[str, int]
    source: Guarded = field(repr=False)


def preview(
    spec: str,
    roots: Roots,
    columns: Mapping[str, str | None] | None = None,
    labels: str | None = None,
    classes: str | None = None,
    val_fraction: float | int = 0.1,
    seed: int = 0,
) -> Preview:
    """Read the rows of a source and say what a project of it would hold.

    Args:
        spec: the source, for example `folder:pets`; a relative path starts at the first root.
        roots: what may be read.
        columns: the columns to use of a table, by the names of `SourceOptions`; empty text counts as none.
        labels: `FILE[:COLUMN]` with labels that replace the source's.
        classes: a file with one class name per line.
        val_fraction: the share held out where the source has no splits.
        seed: of the splits, and of what a built-in source plants.

    Raises:
        InputError: the source, labels or classes cannot be used, or a file lies outside the roots.
        SettingsError: the held-out share is out of range.
    """
    check_settings(val_fraction, None)
    named = {name: text for name, text in (columns or {}).items() if text and name in COLUMNS}
    spec = roots.resolve_spec(spec.strip())
    guarded = Guarded(open_source(spec, SourceOptions(**named, seed=seed)), roots, {})
    label_file = _resolved_labels(labels, roots) if labels else None
    names = read_classes(_resolved_file(classes, roots, "The class file")) if classes else None
    rows = guarded.rows()
    _refuse_outside(rows.frame, roots)
    frame, problems, ordered = labelled(rows, label_file, names)
    frame, unsplit = split_rows(frame, val_fraction, seed)
    problems = pd.concat([_veiled(problems, roots), unsplit], ignore_index=True)
    if names is None:
        present = set(frame["given_label"])
        ordered = tuple(name for name in ordered if name in present)
    check_enough(frame, problems, spec)
    chosen = _samples(frame, ordered, seed)
    wanted = {sample_id for each in chosen for sample_id in each["samples"]}
    known = frame.loc[frame["sample_id"].isin(wanted), ["sample_id", "filepath"]]
    files = {str(sample_id): str(path) for sample_id, path in known.itertuples(index=False, name=None)}
    return Preview(
        spec, len(frame), chosen, len(problems), _plain(problems.head(PROBLEMS_SHOWN)),
        {str(name): int(count) for name, count in frame["split"].value_counts().items()},
        replace(guarded, files=files),
    )  # fmt: skip


def sample_images(found: Preview, per_class: int = SAMPLES) -> dict[str, bytes]:
    """Return thumbnails (WebP) of some samples of the first 40 classes; an image that cannot be read is left out."""
    shown = found.classes[:CLASSES_SHOWN]
    ids = [sample_id for each in shown for sample_id in each["samples"][:per_class]]
    images: dict[str, bytes] = {}
    for sample_id, data in found.source.read(ids):
        try:
            images[sample_id] = thumb(data) if isinstance(data, bytes) else b""
        except InputError:
            continue
    return {sample_id: images[sample_id] for sample_id in ids if images.get(sample_id)}


def resolved_files(told: Mapping[str, str], roots: Roots) -> dict[str, str]:
    """Return what was filled in with the files of `labels` and `classes` by their whole paths.

    A command that is started elsewhere would not find them by the paths that a person typed.

    Raises:
        InputError: a file is not there, or lies outside the roots.
    """
    found = dict(told)
    if "labels" in found:
        found["labels"] = _resolved_labels(found["labels"], roots)
    if "classes" in found:
        found["classes"] = str(_resolved_file(found["classes"], roots, "The class file"))
    return found


def _samples(frame: pd.DataFrame, classes: tuple[str, ...], seed: int) -> tuple[dict[str, Any], ...]:
    """Choose the samples with the lowest random numbers of their class: the same ones each time."""
    draws = uniform(sample_keys(frame["sample_id"].tolist()), seed, "preview")
    ids = frame["sample_id"].to_numpy(dtype=object)[np.argsort(draws, kind="stable")]
    labels = frame["given_label"].to_numpy(dtype=object)[np.argsort(draws, kind="stable")]
    counts = frame["given_label"].value_counts()
    chosen: dict[str, list[str]] = {name: [] for name in classes}
    for sample_id, label in zip(ids.tolist(), labels.tolist(), strict=True):
        if len(chosen[label]) < SAMPLES:
            chosen[label].append(sample_id)
    return tuple({"name": name, "count": int(counts.get(name, 0)), "samples": chosen[name]} for name in classes)


def _refuse_outside(frame: pd.DataFrame, roots: Roots) -> None:
    """Raise InputError where a row names a file outside the roots: no project may be made that reads it."""
    paths = [path for path in frame["filepath"].tolist() if path]
    outside = roots.outside(paths)
    if any(outside):
        first = paths[outside.index(True)]
        raise InputError(
            f"{sum(outside):,} of {len(frame):,} images lie {OUTSIDE}. The first is {first}. The folders: {roots.text}."
        )


def _veiled(problems: pd.DataFrame, roots: Roots) -> pd.DataFrame:
    """Take the reason from files outside the roots: it would tell whether there is such a file."""
    paths = problems["filepath"].tolist()
    hidden = [bool(path) and outside for path, outside in zip(paths, roots.outside(paths), strict=True)]
    reasons = [OUTSIDE if hide else reason for hide, reason in zip(hidden, problems["reason"].tolist(), strict=True)]
    return problems.assign(reason=pd.Series(reasons, dtype=object, index=problems.index))


def _plain(rows: pd.DataFrame) -> tuple[dict[str, str], ...]:
    return tuple({str(key): str(value) for key, value in row.items()} for row in rows.to_dict("records"))


def _resolved_file(text: str, roots: Roots, what: str) -> Path:
    path = roots.resolve(text)
    if error := file_error(path):
        raise InputError(f"{what} {text} cannot be read: {error}. Check the path.")
    return path


def _resolved_labels(text: str, roots: Roots) -> str:
    """Resolve the file of `FILE[:COLUMN]`; a file with a colon in its name is found as such first."""
    whole = roots.folders[0] / text
    path, column = (text, None) if roots.holds(whole) and whole.exists() else split_column(text)
    resolved = _resolved_file(str(path), roots, "The label file")
    return f"{resolved}:{column}" if column else str(resolved)
