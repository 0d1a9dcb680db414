"""The frozen record of one run: where the measuring half ends and the deciding half begins.

`Findings` holds one row of evidence per image and the arrays behind it. It is plain numpy and pandas: reading it
needs no torch. Arrays are mapped from disk, so opening the findings of a million images is cheap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.axes import Array, Float, Integer
from core.errors import ProjectError

EVIDENCE = (
    "filepath", "split", "given_label", "predicted_label", "predicted_prob",
    "suggested_label", "suggested_prob", "suspicion", "reason",
)  # fmt: skip
SPACES = ("features", "gradients")


class Neighbours(NamedTuple):
    """Row positions of the nearest training images of each image, nearest first, and their cosine similarities."""

    rows: Integer[Array, "n k"]
    similarity: Float[Array, "n k"]


@dataclass(frozen=True)
class Findings:
    """What one run found.

    Attributes:
        samples: indexed by `sample_id`: `EVIDENCE`, then `score_<name>` (percentile 0-100 among the rows of its own
            kind, trained on or held out; high = suspicious) and `raw_<name>` (the textbook value and sign).
        classes: class names; the columns of `head_probabilities`.
        run: what was computed from what, with which settings, versions and device, and which rule `suspicion` followed.
        head_probabilities: `n c`, of whoever suggests the label: calibrated out-of-sample probabilities of the ridge
            head, or the early network's where the labels were memorised and the head is left out.
        curves: `t n`, probability of the given label at every epoch of the recorded training.
        neighbours: per space of `SPACES`.
        maps: per space of `SPACES`, `n 2`, empty where the run was told to draw none.
    """

    samples: pd.DataFrame
    classes: tuple[str, ...]
    run: Mapping[str, Any]
    head_probabilities: Float[Any, "n c"]
    curves: Float[Array, "t n"]
    neighbours: Mapping[str, Neighbours] = field(default_factory=dict)
    maps: Mapping[str, Float[Array, "n 2"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def table(self) -> pd.DataFrame:
        """Return one row of evidence per image, indexed by `sample_id` (a copy)."""
        return self.samples.copy()

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names that `score_<name>` and `raw_<name>` columns exist for."""
        return tuple(str(name).removeprefix("score_") for name in self.samples if str(name).startswith("score_"))

    def in_memory(self) -> Findings:
        """Return the same findings with nothing left on disk."""
        near = {space: Neighbours(*map(np.array, found)) for space, found in self.neighbours.items()}
        maps = {space: np.array(found) for space, found in self.maps.items()}
        curves, head = np.array(self.curves), np.array(self.head_probabilities)
        return replace(self, neighbours=near, maps=maps, curves=curves, head_probabilities=head)

    def save_scores(self, folder: Path) -> None:
        """Write the table and the arrays that belong to it into an existing folder."""
        self.samples.reset_index().to_parquet(folder / "samples.parquet", index=False)
        _save_by_blocks(folder / "head_probabilities.npy", self.head_probabilities)
        np.save(folder / "curves.npy", self.curves)
        (folder / "findings.json").write_text(json.dumps({"classes": self.classes, "run": dict(self.run)}, indent=1))

    @classmethod
    def load(cls, scores: Path, neighbours: Path | None = None, maps: Path | None = None) -> Findings:
        """Open the findings in a run's stage folders.

        Raises:
            ProjectError: a file is missing or damaged.
        """
        try:
            facts = json.loads((scores / "findings.json").read_text())
            samples = pd.read_parquet(scores / "samples.parquet").set_index("sample_id")
            return cls(
                samples=samples,
                classes=tuple(facts["classes"]),
                run=facts["run"],
                head_probabilities=np.load(scores / "head_probabilities.npy", mmap_mode="r"),
                curves=np.load(scores / "curves.npy", mmap_mode="r"),
                neighbours=dict(load_neighbours(neighbours)) if neighbours else {},
                maps={space: np.load(path, mmap_mode="r") for space, path in _existing(maps)},
            )
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise ProjectError(
                f"The findings in {scores} cannot be read ({error}). Delete that folder and run `gradsift sift` again."
            ) from error


def _save_by_blocks(path: Path, matrix: Any, rows: int = 16_384) -> None:
    """Write a matrix whose rows may be worked out only when asked for; through a file, never a writable map."""
    dtype = np.dtype(matrix.dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(matrix.shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, len(matrix), rows):
            file.write(np.ascontiguousarray(matrix[begin : begin + rows], dtype=dtype).tobytes())


def save_neighbours(folder: Path, space: str, neighbours: Neighbours) -> None:
    """Write the neighbours of one space into an existing folder."""
    np.save(folder / f"{space}_rows.npy", neighbours.rows.astype(np.int32))
    np.save(folder / f"{space}_similarity.npy", neighbours.similarity.astype(np.float32))


def load_neighbours(folder: Path) -> Iterator[tuple[str, Neighbours]]:
    """Yield the neighbours of each space that `folder` holds."""
    for space in SPACES:
        if (folder / f"{space}_rows.npy").exists():
            parts = (np.load(folder / f"{space}_{part}.npy", mmap_mode="r") for part in ("rows", "similarity"))
            yield space, Neighbours(*parts)


def _existing(maps: Path | None) -> list[tuple[str, Path]]:
    return [] if maps is None else [(s, maps / f"{s}.npy") for s in SPACES if (maps / f"{s}.npy").exists()]
