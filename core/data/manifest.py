"""The manifest: every usable sample in order, with its id, label, split and the digest of its image.

`Manifest.read` is the one call that opens a source, labels its rows, looks at every image once and makes the splits.
`Manifest.load` takes a saved one back without looking at the images again. What could not be used stands in `problems`
with a reason; a sample is told by its `sample_id`, never by its position.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from core.axes import Array, Bool, Int
from core.chance import sample_keys, uniform
from core.data.images import Measured, measure, read_decoded
from core.data.sources import Source, SourceOptions, SourceRows, fetch_source, open_source
from core.data.sources.base import META, PROBLEM_COLUMNS, file_error, problems_frame
from core.data.sources.label_files import read_labels
from core.data.sources.labels import INTEGER, name_labels, read_classes
from core.errors import InputError, SettingsError
from core.progress import Progress

TEXT_COLUMNS = ["sample_id", "filepath", "split", "given_label", "sha256"]
NUMBER_COLUMNS = ["width", "height"]
TEST = "test"
VAL = "val"  # the split that choices are made by, and that is made where a source has none
OPTIONAL_COLUMNS = ["group", "true_label", "planted"]
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, eq=False)
class Manifest:
    """The ordered rows of a data set.

    Attributes:
        rows: `sample_id filepath split given_label sha256 width height`, `group`, `true_label`, `planted` where the
            source has them, and `meta_<name>` for each column that travels along (text, None where there is none);
            widths and heights in pixels, turned upright; `filepath` is absolute, or "" where there is no file. Rows
            without images have "" for `sha256` and 0 for both sizes.
        classes: the class names in the order of the codes.
        source: where the images are read from.
        problems: what was set aside: `sample_id filepath reason`.
    """

    rows: pd.DataFrame
    classes: tuple[str, ...]
    source: Source
    problems: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> Array:
        """The sample ids in order, as an object array of text."""
        return self.rows["sample_id"].to_numpy(dtype=object)

    @property
    def labels(self) -> Int[Array, " n"]:
        """The given labels as codes into `classes`."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.rows["given_label"])).astype(np.int64)

    @property
    def train(self) -> Bool[Array, " n"]:
        """True for the rows to train on, False for those held out."""
        return (self.rows["split"] == "train").to_numpy(dtype=bool)

    @property
    def judging(self) -> Bool[Array, " n"]:
        """True for the held-out rows that a choice may be made by: `val` where there is one, so that a `test` beside
        it stays unseen; else all."""
        val = (self.rows["split"] == VAL).to_numpy(dtype=bool)
        return val if val.any() else ~self.train

    @property
    def has_images(self) -> bool:
        """Whether the rows have images; where they have none, a model has to bring its own features or history."""
        return bool((self.rows["sha256"] != "").any())

    @property
    def meta(self) -> pd.DataFrame:
        """The columns `meta_<name>` that travel along, in the order of the rows."""
        return self.rows[_meta_names(self.rows)]

    def meta_digest(self) -> str:
        """Return the SHA-256 (hex) of the columns that travel along, "" where there are none; `digest` is without."""
        if self.meta.empty:
            return ""
        columns = {name: self.rows[name].tolist() for name in self.meta}
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()

    def digest(self) -> str:
        """Return the SHA-256 (hex) of ids, labels, splits, image digests and classes: equal inputs, equal digest."""
        state = hashlib.sha256(json.dumps(self.classes).encode())
        columns = (self.rows[name] for name in ("sample_id", "given_label", "split", "sha256"))
        for row in zip(*columns, strict=True):
            state.update(json.dumps(row).encode())
        return state.hexdigest()

    def save(self, path: Path, problems_path: Path | None = None) -> None:
        """Write the rows, and the problems where a path is given, as Parquet: whole or not at all."""
        _write(self.rows, path)
        if problems_path is not None:
            _write(self.problems, problems_path)

    @classmethod
    def load(cls, path: Path, problems_path: Path, source: Source, classes: Sequence[str]) -> Manifest:
        """Take a saved manifest back; its images are read from `source` by id. No problems file means no problems.

        Raises:
            InputError: the file is missing or damaged, or holds a label that is not among the classes.
        """
        rows = _read(path, [*TEXT_COLUMNS, *NUMBER_COLUMNS])
        problems = _read(problems_path, PROBLEM_COLUMNS) if problems_path.exists() else problems_frame()
        if unknown := sorted(set(rows["given_label"]) - set(classes)):
            raise InputError(f"{path} holds the label {unknown[0]!r}, which is not among its classes. Read it anew.")
        return cls(rows, tuple(classes), source, problems)

    @classmethod
    def read(
        cls,
        spec: str,
        *,
        options: SourceOptions | None = None,
        labels: str | None = None,
        classes: Sequence[str] | Path | None = None,
        val_fraction: float | int = 0.1,
        limit: int | None = None,
        seed: int = 0,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Manifest:
        """Open a source, label its rows, look at every image once, and split.

        Args:
            spec: the source, for example `folder:pets`.
            options: which columns of a table to use.
            labels: `FILE[:COLUMN]` with labels that replace the source's.
            classes: the class names in order, or the path of a file with one per line.
            val_fraction: share of each class held out as `val` where no split but `test` is named, 0 to below 0.9.
            limit: read only so many rows, chosen per class and split in proportion.
            seed: of the choice and of the splits.
            download: fetch what the source names first, where it is not there yet.
            progress: where to report to.

        Raises:
            InputError: the source, labels or classes cannot be used, or fewer than 2 classes or no train row remain.
            SettingsError: a number is outside its range.
        """
        check_settings(val_fraction, limit)
        if download:
            fetch_source(spec)
        source = open_source(spec, options)
        names = None if classes is None else read_classes(Path(classes) if isinstance(classes, str) else classes)
        rows = source.rows()
        frame, problems, ordered = labelled(rows, labels, names)
        if limit is not None:
            frame = frame[choose(frame, limit, seed)].reset_index(drop=True)
        look = _measured if rows.images else _without_images
        frame, broken = look(source, frame, progress or Progress())
        frame, unsplit = split_rows(frame, val_fraction, seed)
        problems = pd.concat([problems, broken, unsplit], ignore_index=True)
        if names is None:  # classes that were not asked for by name count only where an image of them is left
            present = set(frame["given_label"])
            ordered = tuple(name for name in ordered if name in present)
        check_enough(frame, problems, spec)
        return cls(_tidy(frame), ordered, source, problems)


def hold_out(ids: Sequence[str], labels: Sequence[str], fraction: float | int, seed: int) -> Bool[Array, " n"]:
    """Choose the rows to hold out: round(fraction · n) of each class, but never all of one.

    Those with the lowest random numbers of their class go, so the choice does not depend on the order of the rows.
    """
    draws = pd.Series(uniform(sample_keys(ids), seed, "split"))
    classes = pd.Series(list(labels), dtype=object)
    rank = draws.groupby(classes).rank(method="first").to_numpy()
    count = classes.groupby(classes).transform("size").to_numpy(dtype=np.int64)
    return np.asarray(rank <= np.minimum(np.floor(fraction * count + 0.5), count - 1), dtype=bool)


def choose(frame: pd.DataFrame, limit: int, seed: int) -> Bool[Array, " n"]:
    """Choose `limit` rows, in proportion to the sizes of classes and splits, at least one of each while that fits."""
    if limit >= len(frame):
        return np.ones(len(frame), dtype=bool)
    strata = pd.Series([json.dumps(pair) for pair in zip(frame["split"], frame["given_label"], strict=True)])
    sizes = strata.value_counts().sort_index()
    quota = dict(zip(sizes.index, _shares(sizes.to_numpy(dtype=np.int64), limit), strict=True))
    rank = (
        pd.Series(uniform(sample_keys(frame["sample_id"].tolist()), seed, "limit")).groupby(strata).rank(method="first")
    )
    chosen: Bool[Array, " n"] = np.asarray(rank.to_numpy() <= strata.map(quota).to_numpy(), dtype=bool)
    return chosen


def _shares(sizes: Int[Array, " c"], limit: int) -> Int[Array, " c"]:
    """Return whole numbers in proportion to the sizes that add up to the limit (largest remainders first)."""
    exact = sizes * (limit / int(sizes.sum()))
    least = 1 if limit >= len(sizes) else 0
    shares: Int[Array, " c"] = np.maximum(np.floor(exact).astype(np.int64), least)
    while shares.sum() < limit:
        shares[np.argmax(np.where(shares < sizes, exact - shares, -np.inf))] += 1
    while shares.sum() > limit:
        shares[np.argmax(np.where(shares > least, shares - exact, -np.inf))] -= 1
    return shares


def check_settings(val_fraction: float | int, limit: int | None) -> None:
    """Raise SettingsError where a share or a limit is out of range."""
    if not 0.0 <= val_fraction < 0.9:
        raise SettingsError(f"The held-out share is {val_fraction!r}; give a number from 0 to below 0.9.")
    if limit is not None and limit < 2:
        raise SettingsError(f"The limit is {limit!r} rows; give at least 2.")


def labelled(
    rows: SourceRows, labels: str | None, names: tuple[str, ...] | None
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return the labelled rows, the problems, and the classes in order."""
    table = None if labels is None else read_labels(labels)
    rows = rows if table is None else table.replace_in(rows)
    missing = rows.frame["given_label"].isna().to_numpy()
    reason = "no label" if table is None else f"no label in {table.name}"
    unlabelled = rows.frame.loc[missing, ["sample_id", "filepath"]].assign(reason=reason)
    problems = pd.concat([rows.problems, unlabelled.astype(object)], ignore_index=True)
    frame = rows.frame.loc[~missing].reset_index(drop=True)
    texts, ids = list(frame["given_label"]), list(frame["sample_id"])
    own = rows.classes if table is None else _fitting(rows.classes, texts)
    given, ordered = name_labels(texts, ids, names or own)
    frame["given_label"] = pd.Series(given, dtype=object)
    if "true_label" in frame:
        codes = {str(code): name for code, name in enumerate(ordered)}
        lookup = codes if any(INTEGER.fullmatch(text) and text not in ordered for text in texts) else {}
        frame["true_label"] = pd.Series([lookup.get(text, text) for text in frame["true_label"]], dtype=object)
    return frame, problems, ordered


def _fitting(classes: tuple[str, ...] | None, labels: Sequence[str]) -> tuple[str, ...] | None:
    """Return the source's own classes where the labels that replace its labels are of them, by name or by number."""
    if classes is None:
        return None
    distinct, codes = set(labels), {str(code) for code in range(len(classes))}
    return classes if distinct <= set(classes) or distinct <= codes else None


def _measured(source: Source, frame: pd.DataFrame, progress: Progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decode every image once: return the rows with digest and size, and the problems."""
    ids = list(frame["sample_id"])
    found: dict[str, Measured] = {}
    reasons: dict[str, str] = {}
    for sample_id, result in read_decoded(source, ids, measure, "checking images", progress):
        if isinstance(result, Measured):
            found[sample_id] = result
        else:
            reasons[sample_id] = str(result)
    good = frame["sample_id"].isin(list(found)).to_numpy(dtype=bool)
    paths = frame.loc[~good, ["sample_id", "filepath"]].itertuples(index=False, name=None)
    broken = problems_frame(
        (name, path, reasons.get(name, "the source has no image of this id")) for name, path in paths
    )
    kept = frame.loc[good].reset_index(drop=True)
    measured = [found[sample_id] for sample_id in kept["sample_id"]]
    columns = {name: [getattr(one, name) for one in measured] for name in ("sha256", *NUMBER_COLUMNS)}
    return kept.assign(**columns), broken


def _without_images(source: Source, frame: pd.DataFrame, progress: Progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows that have no image: no digest, no size, no problem."""
    return frame.assign(sha256="", width=0, height=0), problems_frame()


def split_rows(frame: pd.DataFrame, val_fraction: float | int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows with the source's splits or made ones, and the problems.

    A source that names no split, or none but `test`, leaves the others to be trained on, some of them held out here.
    Beside any other named split, a row without one is a problem: whether it was trained on is not known.
    """
    names = frame["split"].map(lambda text: SPLIT_NAMES.get(text.strip().lower(), text), na_action="ignore")
    given = names.notna().to_numpy(dtype=bool)
    if set(names[given]) <= {TEST}:
        free = frame.loc[~given]
        held_out = hold_out(list(free["sample_id"]), list(free["given_label"]), val_fraction, seed)
        made = np.full(len(frame), TEST, dtype=object)
        made[~given] = np.where(held_out, VAL, "train")
        return frame.assign(split=made), problems_frame()
    unsplit = frame.loc[~given, ["sample_id", "filepath"]].astype(object)
    unsplit["reason"] = "no split, while other rows of the source have one"
    return frame.assign(split=names.astype(object))[given].reset_index(drop=True), unsplit


def check_enough(frame: pd.DataFrame, problems: pd.DataFrame, spec: str) -> None:
    """Raise InputError where too few images or classes are left to train on."""
    aside = ""
    if len(problems):
        first = problems.iloc[0]
        aside = f" ({len(problems):,} were set aside, the first, {first['sample_id']}: {first['reason']})"
    if not len(frame):
        raise InputError(f"{spec} has no usable image{aside}. Check the source and its labels.")
    trained = set(frame.loc[frame["split"] == "train", "given_label"])
    if not trained:
        splits = ", ".join(sorted(set(frame["split"])))
        raise InputError(
            f"{spec} has no rows in the split train, only in {splits}{aside}. Name the training rows train."
        )
    if len(trained) < 2:
        raise InputError(
            f"{spec} has training images of {len(trained)} class, {next(iter(trained))!r}{aside}. "
            "A classifier needs at least 2 classes."
        )


def _tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a manifest in their order and types; text is object, None where there is none."""
    optional = [name for name in OPTIONAL_COLUMNS if name in frame and frame[name].notna().any()]
    optional += _meta_names(frame)
    frame = frame[[*TEXT_COLUMNS, *NUMBER_COLUMNS, *optional]].reset_index(drop=True)
    text = frame[[*TEXT_COLUMNS, *optional]].astype(object)
    numbers = frame[NUMBER_COLUMNS].astype(np.int64)
    return pd.concat([text.where(text.notna(), None), numbers], axis=1)[list(frame.columns)]


def _meta_names(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame if str(name).startswith(META)]


def _write(frame: pd.DataFrame, path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        frame.to_parquet(aside, index=False)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if reason := file_error(path):
        raise InputError(f"{path} cannot be read: {reason}. Read the source anew.")
    try:
        frame = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is damaged. Read the source anew.") from error
    if missing := [name for name in columns if name not in frame]:
        raise InputError(f"{path} has no column {missing[0]!r}. Read the source anew.")
    return _tidy(frame) if "sha256" in columns else frame[list(columns)].astype(object)
