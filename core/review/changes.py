"""What an export would change, in numbers, and the code that loads what it wrote.

`changes` counts before anything leaves, so that a person can agree to it; `core.export.manifest` counts again what it
wrote. `load_code` gives lines of Python that run as they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InputError
from core.review.decisions import EXCLUDE, KEEP, RELABEL, UNSURE
from core.review.flags import TRAIN

LOSS_SHARE = 0.2  # a class that loses a larger share of its training images is warned of
SHOWN = 12  # sample pictures of each kind


@dataclass(frozen=True)
class Changes:
    """What the decisions in effect do to the data set.

    Attributes:
        before: images now; after: images that stay.
        excluded, relabelled, kept, unsure, untouched: images under each decision and under none; they add up to
            `before`.
        not_applied: decisions on samples that are no longer in the manifest.
        per_class: of the training images, one row per class: name, before, excluded, moved_out, moved_in, after, lost
            (excluded and relabelled away, as a share of before, 0-1). A class that none held has lost 0.
        moves: {from, to, count} of relabelled images, the most frequent first.
        warnings: a sentence per class that loses more than `LOSS_SHARE`, or that nothing is left of.
        samples: "excluded" and "relabelled": the first ids decided so, at most `SHOWN` each.
    """

    before: int
    after: int
    excluded: int
    relabelled: int
    kept: int
    unsure: int
    untouched: int
    not_applied: int
    per_class: list[dict[str, Any]]
    moves: list[dict[str, Any]]
    warnings: list[str]
    samples: dict[str, list[str]]

    @property
    def nothing(self) -> bool:
        """Whether what leaves is what came in."""
        return not self.excluded and not self.relabelled


def changes(rows: pd.DataFrame, decisions: pd.DataFrame) -> Changes:
    """Count what an export would change.

    Args:
        rows: `Manifest.rows`.
        decisions: `Review.current()`.
    """
    table = rows.loc[rows["sample_id"].isin(decisions.index).to_numpy(bool), ["sample_id", "split", "given_label"]]
    decided = decisions.join(table.set_index("sample_id"), how="inner")  # in the order of the decisions
    counts = {name: int((decided["action"] == name).sum()) for name in (EXCLUDE, RELABEL, KEEP, UNSURE)}
    train = rows.loc[(rows["split"] == TRAIN).to_numpy(bool), "given_label"]
    per_class = _per_class(train, decided[(decided["split"] == TRAIN).to_numpy(bool)])
    return Changes(
        before=len(rows),
        after=len(rows) - counts[EXCLUDE],
        excluded=counts[EXCLUDE],
        relabelled=counts[RELABEL],
        kept=counts[KEEP],
        unsure=counts[UNSURE],
        untouched=len(rows) - sum(counts.values()),
        not_applied=len(decisions) - len(decided),
        per_class=per_class,
        moves=_moves(decided),
        warnings=[warning for row in per_class if (warning := _warning(row))],
        samples={
            name: [str(each) for each in decided.index[(decided["action"] == action).to_numpy(bool)][:SHOWN]]
            for name, action in (("excluded", EXCLUDE), ("relabelled", RELABEL))
        },
    )


def load_code(folder: str | Path, formats: Sequence[str]) -> dict[str, str]:
    """Lines of Python that load an export: "pandas", "torch" (a Dataset) and "gradsift" (its `table:` source).

    Args:
        folder: what `export_manifest` wrote; the code names it by its absolute path.
        formats: the formats it was written in. Of several the one that keeps most is read (Parquet, JSON Lines, CSV).

    Raises:
        InputError: none of the formats is known, or the export cannot be read.
    """
    written = [name for name in _READERS if name in formats]
    if not written:
        raise InputError(f"No code is known that loads {', '.join(formats) or 'no format'}. Export as Parquet or CSV.")
    path = Path(folder).absolute() / f"cleaned.{written[0]}"
    read = _READERS[written[0]].format(path=repr(str(path)))
    source = _SOURCE.format(spec=repr(f"table:{path}"))
    torch = _FILES.format(read=read) if _all_files(path) else _ANY_SOURCE.format(source=source)
    return {"pandas": f"{read}\nprint(cleaned)\n", "torch": torch, "gradsift": f"{source}\n{_COUNT}\n"}


def _per_class(train: pd.Series[str], decided: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows per class, from the given labels of all training images and from those that are decided on."""
    moved, out = decided[decided["action"] == RELABEL], decided[decided["action"] == EXCLUDE]
    columns = (train, out["given_label"], moved["given_label"], moved["final_label"])
    before, excluded, away, into = (Counter(map(str, column)) for column in columns)
    rows = []
    for name in sorted(before.keys() | into.keys()):
        held, dropped, gone, come = (each[name] for each in (before, excluded, away, into))
        rows.append({
            "name": name, "before": held, "excluded": dropped, "moved_out": gone, "moved_in": come,
            "after": held - dropped - gone + come, "lost": (dropped + gone) / held if held else 0.0,
        })  # fmt: skip
    return rows


def _moves(decided: pd.DataFrame) -> list[dict[str, Any]]:
    moved = decided[decided["action"] == RELABEL]
    sizes = moved.groupby(["given_label", "final_label"], sort=True).size().reset_index(name="count")
    sizes = sizes.sort_values("count", ascending=False, kind="stable")
    pairs = zip(sizes["given_label"], sizes["final_label"], sizes["count"], strict=True)
    return [{"from": str(one), "to": str(other), "count": int(count)} for one, other, count in pairs]


def _warning(row: dict[str, Any]) -> str | None:
    """What a person has to know before this class leaves so; None where there is nothing."""
    name, before, lost = row["name"], row["before"], row["excluded"] + row["moved_out"]
    if before and not row["after"]:
        return f"{name} loses all {before:,} of its training images: none of this class is left to train on."
    if row["lost"] <= LOSS_SHARE:
        return None
    shares = f"{_per_cent(row['lost'])}), more than the stated {LOSS_SHARE:.0%}".replace("%", " %")
    told = f"{name} loses {lost:,} of {before:,} training images ({shares}."
    come = row["moved_in"]
    return f"{told} {come:,} {'other is' if come == 1 else 'others are'} relabelled to it." if come else told


def _per_cent(share: float) -> str:
    """A share above `LOSS_SHARE` with as many digits as show that it is."""
    texts = ((f"{share:.{digits}%}", f"{LOSS_SHARE:.{digits}%}") for digits in range(6))
    return next((text for text, stated in texts if text != stated), f"{share:.6%}")


def _all_files(path: Path) -> bool:
    """Whether every image of a `cleaned` table is a file of its own."""
    readers = {
        ".csv": lambda: pd.read_csv(path, dtype=str, keep_default_na=False, usecols=["filepath"]),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=False),
        ".parquet": lambda: pd.read_parquet(path, columns=["filepath"]),
    }
    try:
        places = readers[path.suffix]()
        return bool(len(places)) and bool((places["filepath"].fillna("") != "").all())
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The export {path} cannot be read ({error}). Export again.") from error


_READERS = {
    "parquet": """\
import pandas as pd

cleaned = pd.read_parquet({path})""",
    "jsonl": """\
import pandas as pd

cleaned = pd.read_json({path}, lines=True, dtype=False)""",
    "csv": """\
import pandas as pd

cleaned = pd.read_csv({path}, dtype=str, keep_default_na=False)
cleaned = cleaned.replace(r"^'(?='*[=+\\-@\\t\\r])", "", regex=True)  # put there so that no spreadsheet runs a text""",
}

_FILES = """\
{read}

from PIL import Image, ImageOps
from torch.utils.data import Dataset


class Cleaned(Dataset):
    def __init__(self, rows, classes, transform=None):
        self.rows, self.classes, self.transform = rows.reset_index(drop=True), classes, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows.loc[index]
        image = ImageOps.exif_transpose(Image.open(row["filepath"])).convert("RGB")
        return (self.transform(image) if self.transform else image), self.classes.index(row["label"])


classes = sorted(cleaned["label"].unique())
train = Cleaned(cleaned[cleaned["split"] == "train"], classes)
print(len(train), "images,", len(classes), "classes")
"""

_SOURCE = """\
from core import Manifest  # GradSift

manifest = Manifest.read({spec})"""
_COUNT = 'print(len(manifest), "images,", len(manifest.classes), "classes")'

_ANY_SOURCE = """\
import io

{source}

from PIL import Image, ImageOps
from torch.utils.data import Dataset


class Cleaned(Dataset):
    def __init__(self, manifest, split, transform=None):  # holds the encoded images in memory
        rows = manifest.rows[manifest.rows["split"] == split]
        self.images = dict(manifest.source.read(list(rows["sample_id"])))
        self.rows, self.classes, self.transform = rows.reset_index(drop=True), manifest.classes, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows.loc[index]
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(self.images[row["sample_id"]]))).convert("RGB")
        return (self.transform(image) if self.transform else image), self.classes.index(row["given_label"])


train = Cleaned(manifest, "train")
print(len(train), "images,", len(train.classes), "classes")
"""
