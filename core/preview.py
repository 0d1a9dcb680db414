"""What a source holds, before a project is made: rows only, no image but a handful of samples.

    found = preview("folder:pets", roots)
    sample_images(found)                   # {"cat/1.png": WebP bytes, …}

The rows, labels and splits are those that `Manifest.read` would make; only the images are not looked at. The fields of
each kind of source and of each kind of model stand here too, and what a form filled in becomes a spec inside the roots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.chance import sample_keys, uniform
from core.data.manifest import check_enough, check_settings, labelled, split_rows
from core.data.sources import SourceOptions, open_source, split_spec
from core.data.sources.base import OUTSIDE, file_error
from core.data.sources.labels import read_classes, split_column
from core.data.thumbs import thumb
from core.errors import InputError
from core.models.specs import DEFAULT, MODELS, ModelSpec, parse_model
from core.pictures import Guarded
from core.roots import Roots

SAMPLES = 6  # of a class
CLASSES_SHOWN = 40  # classes of which images are read
PROBLEMS_SHOWN = 50
COLUMNS = ("id_column", "label_column", "path_column", "split_column", "group_column")


@dataclass(frozen=True)
class SourceField:
    """One field of the form for a kind of source or of model."""

    key: str
    label: str
    help: str
    required: bool = False


_LABELS = (
    SourceField("labels", "Labels from another file", "A CSV, Parquet, JSON Lines, .npy or .npz file; FILE:COLUMN."),
    SourceField("classes", "Class names", "A text file with one name per line, in the order of the numbers."),
)
_META = SourceField(
    "meta_columns", "Columns that travel along", "annotator, batch, camera: separated by commas, to be compared later."
)
SOURCE_FIELDS: Mapping[str, tuple[SourceField, ...]] = {
    "digits": (),
    "pictograms": (),
    "folder": (
        SourceField("path", "Folder", "The folder that holds one folder per class, or images and metadata.csv.", True),
        *_LABELS,
        _META,
    ),
    "zip": (
        SourceField("path", "Zip file", "It holds one folder per class, or images and metadata.csv.", True),
        *_LABELS,
        _META,
    ),
    "torchvision": (
        SourceField("name", "Data set", "As torchvision calls it: CIFAR10, OxfordIIITPet, …", True),
        SourceField("path", "Folder", "What torchvision calls the root of the data set.", True),
        *_LABELS,
    ),
    "hf": (
        SourceField("path", "Folder", "What save_to_disk wrote, or a folder of Parquet files.", True),
        *_LABELS,
        _META,
    ),
    "table": (
        SourceField("path", "File", "A CSV, TSV, Parquet or JSON Lines file with one row per image.", True),
        SourceField("path_column", "Column of the image", "Its path, or the image itself."),
        SourceField("label_column", "Column of the label", "A name or a number."),
        SourceField("id_column", "Column of the id", "Without one, the path or the row's number."),
        SourceField("split_column", "Column of the split", "train, val or test."),
        SourceField("group_column", "Column of the group", "What the images have in common besides the label."),
        *_LABELS,
        _META,
    ),
}
_NAME = SourceField("name", "Architecture", "As the library calls it, for example resnet18.", True)
_WEIGHTS = SourceField(
    "weights",
    "Weights",
    f"A state dict (.pt, .pth) or .safetensors; {DEFAULT} for the library's own, a download.",
    True,
)
MODEL_FIELDS: Mapping[str, tuple[SourceField, ...]] = {
    "reference": (),
    "train": (_NAME, replace(_WEIGHTS, label="Weights to start from", required=False)),
    "torchvision": (_NAME, _WEIGHTS),
    "timm": (_NAME, _WEIGHTS),
    "code": (
        SourceField("name", "Module and callable", "model.py:make, what returns the network. The code is run.", True),
        SourceField("weights", "Weights", "A state dict (.pt, .pth) or .safetensors, if the code loads none."),
    ),
    "features": (SourceField("weights", "File", "An .npz file with sample_id, features and perhaps logits.", True),),
    "dynamics": (SourceField("weights", "File or folder", "JSON Lines with guid, logits_epoch_X and gold.", True),),
    "recorded": (),
}
FINISHED = ("torchvision", "timm", "code")  # networks that were trained elsewhere
OF_A_NETWORK = ("checkpoints", "layer", "transform")  # settings that only such a network has


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
        val_fraction: the share held out where the source names no split, or none but `test`.
        seed: of the splits, and of what a built-in source plants.

    Raises:
        InputError: the source, labels or classes cannot be used, or a file lies outside the roots.
        SettingsError: the held-out share is out of range.
    """
    check_settings(val_fraction, None)
    named = {name: text for name, text in (columns or {}).items() if text and name in COLUMNS}
    meta = [name.strip() for name in ((columns or {}).get("meta_columns") or "").split(",") if name.strip()]
    head, path = split_spec(spec.strip())
    spec = f"{head}{roots.resolve(path)}" if path else head
    guarded = Guarded(open_source(spec, SourceOptions(**named, meta_columns=meta, seed=seed)), roots, {})
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


def spec_of(kind: str, values: Mapping[str, str]) -> str:
    """Return the spec of a source from what was filled in: `kind:path`, or `kind:name@path` where it has a name."""
    name, path = values.get("name", ""), values.get("path", "")
    return kind + (f":{name}@{path}" if name else f":{path}" if path else "")


def model_kinds(code: bool) -> dict[str, tuple[str, str]]:
    """Return title and meaning of each kind of model, those that run a person's code only where that is allowed."""
    return {name: (kind.title, kind.meaning) for name, kind in MODELS.items() if code or name != "code"}


def model_of(kind: str, values: Mapping[str, str], roots: Roots) -> str:
    """Return the spec of a model from what was filled in, its files by their whole paths.

    Raises:
        ModelError: it is of no known form.
        InputError: a file is not there, or lies outside the roots.
    """
    name, weights = values.get("name", "").strip(), values.get("weights", "").strip() or None
    return resolved_model(str(ModelSpec(kind, name, weights)), roots)


def resolved_model(text: str, roots: Roots) -> str:
    """Return a model's spec with its files by their whole paths; raises what `model_of` does."""
    spec = parse_model(text)
    name, weights = spec.name, spec.weights
    if spec.file is not None:
        path = roots.resolve(str(weights))
        folder = spec.kind == "dynamics" and path.is_dir()
        weights = str(path if folder else _resolved_file(str(weights), roots, "The model's file"))
    if spec.kind == "code" and spec.callable[0].endswith(".py"):
        name = f"{_resolved_file(spec.callable[0], roots, 'The code')}:{spec.callable[1]}"
    return str(ModelSpec(spec.kind, name, weights))


def resolved_weights(texts: Sequence[str], roots: Roots) -> list[str]:
    """Return files of weights by their whole paths; InputError where one is not there, or lies outside the roots."""
    return [str(_resolved_file(text, roots, "The checkpoint")) for text in texts]


def settings_of(model: str) -> tuple[str, ...]:
    """Return which of the settings about networks mean anything for a project's model."""
    kind = parse_model(model).kind
    alone = () if MODELS[kind].gives >= {"history", "features"} else ("reference",)
    return (*alone, *(OF_A_NETWORK if kind in FINISHED else ()), "backbone", "models", "grand")


def downloads(*models: str | None) -> bool:
    """Whether one of these specs names weights that are fetched over the network."""
    return any(text.endswith(f"@{DEFAULT}") for text in models if text)


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
