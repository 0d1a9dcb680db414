"""The canonical export: every sample with its evidence and its decision, the cleaned set, and how both came about.

    export_manifest(project, "cleaned-pets", formats=("csv", "parquet"))

writes a new folder, whole or not at all:

    manifest.<format>    one row per sample, excluded ones included, with `action` and `final_label` (see `COLUMNS`)
    cleaned.<format>     what is left to train on: sample_id, filepath, split, label; the rows with action != exclude
    decisions.jsonl      the whole log of decisions, undone ones included, oldest first
    run.json             source, settings, digests, counts before and after, the meaning and direction of every column

Without decisions the cleaned set is the input, row by row and in its order. A project that was not sifted exports
too, just without scores. `table:` opens either table again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

import core
from core.errors import ExportError
from core.export.folder import ExportedFile, described, whole_folder
from core.export.formats import named
from core.review.decisions import ACTIONS, EXCLUDE, KEEP, RELABEL, snapshot
from core.review.log import DecisionLog
from core.review.present import with_decisions

if TYPE_CHECKING:
    from core.project import Project
else:
    Project: TypeAlias = Any  # whatever has the attributes used here: importing the class costs more than it gives

FORMAT = 1
COLUMNS = {
    "sample_id": "the sample, unique; tables join on it",
    "filepath": "absolute path of the image; empty where it is no file of its own",
    "split": "train, val or test; only train is ranked and reviewed",
    "given_label": "the label as it came",
    "true_label": "the known truth, where errors were planted",
    "group": "the source's group column",
    "meta_*": "a further column of the source, as it came",
    "predicted_label": "the network's class at the end of training",
    "predicted_prob": "its probability, 0-1",
    "suggested_label": "best class of a head that never saw this label; of the early network where it memorised",
    "suggested_prob": "its calibrated probability, 0-1",
    "final_label": "the class a person relabelled to; empty: the given label stands",
    "action": f"a person's decision: {', '.join(ACTIONS)}",
    "is_label_issue": "true: a person relabelled or excluded; false: kept; empty: not settled",
    "suspicion": "the default ranking, 0-100, high = suspicious, within the sample's kind (trained on or held out)",
    "reason": "the evidence in one sentence",
    "score_*": "percentile 0-100, high = suspicious",
    "raw_*": "the textbook value in its textbook sign",
    "spread_*": "standard deviation over the trainings, in percentile points (where there were several)",
    "weight": "0 for excluded samples, else 1",
    "reviewer": "who decided",
    "decided_at": "when, UTC",
    "note": "why, in the reviewer's words",
    "sha256": "digest of the image's bytes",
}
POLARITY = "suspicion and score_*: 0-100, high = suspicious; raw_*: textbook sign. cleanlab's scores run the other way."


@dataclass(frozen=True)
class ExportResult:
    """What was written: the folder, its files, and the numbers of samples (see `counted`)."""

    folder: Path
    files: tuple[ExportedFile, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def export_manifest(project: Project, to: str | Path, formats: Sequence[str] = ("csv",)) -> ExportResult:
    """Write the canonical export of a project into the new folder `to`, whole or not at all.

    Args:
        project: the project; its source and its log are only read.
        to: a folder that does not exist or is empty, outside the source's own folder of images.
        formats: names from `core.export.formats.FORMATS`; each table is written once in each.

    Raises:
        ExportError: an unknown format, a folder in use, or a disk that refuses; nothing was left behind.
        ProjectError: the project, its findings or its log are damaged.
    """
    chosen = named([formats] if isinstance(formats, str) else list(formats))
    target = _expanded(to).absolute()
    manifest = project.manifest()
    _check_outside_source(project.config.source_spec, target)
    findings = project.findings() if project.sifted else None
    decisions, log = snapshot(DecisionLog(project.review_path, read_only=True))
    table = manifest_table(manifest.rows, None if findings is None else findings.table(), decisions)
    clean = cleaned(table)
    counts = counted(table, decisions)
    with whole_folder(target) as folder:
        for each in chosen:
            each.write(table, folder / f"manifest.{each.name}")
            each.write(clean, folder / f"cleaned.{each.name}")
        (folder / "decisions.jsonl").write_text("".join(f"{line}\n" for line in log), encoding="utf-8", newline="\n")
        facts = {
            "tool": "gradsift",
            "version": core.__version__,
            "format": FORMAT,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "source": {"spec": project.config.source_spec, "options": dict(project.config.source_options)},
            "classes": [str(name) for name in manifest.classes],
            "manifest_digest": manifest.digest(),
            "budget": project.config.budget,
            "counts": counts,
            "per_class": per_class(table, clean),
            "run": None if findings is None else dict(findings.run),
            "columns": {str(name): _meaning(str(name)) for name in table},
            "polarity": POLARITY,
            "files": [asdict(file) for file in described(folder)],
        }
        text = json.dumps(facts, ensure_ascii=False, indent=1, default=str)
        (folder / "run.json").write_text(f"{text}\n", encoding="utf-8", newline="\n")
        files = described(folder)
    return ExportResult(target, files, counts)


def manifest_table(rows: pd.DataFrame, findings: pd.DataFrame | None, decisions: pd.DataFrame) -> pd.DataFrame:
    """One row per row of the manifest, in its order, with the columns of `COLUMNS` that apply, in that order.

    Args:
        rows: `Manifest.rows`.
        findings: `Findings.table()`, or None before the first run.
        decisions: `Review.current()`; decisions on samples that are no longer in the manifest are passed over.
    """
    table = rows.set_index("sample_id")
    if findings is not None:
        table = table.join(findings[[name for name in findings if name not in table]])
    table = with_decisions(table, decisions)
    action = table["action"]
    issue = pd.Series(pd.NA, index=table.index, dtype="boolean")
    issue = issue.mask(action.isin([RELABEL, EXCLUDE]), True).mask(action == KEEP, False)
    table = table.assign(is_label_issue=issue, weight=(action != EXCLUDE).astype("int64")).reset_index()
    return table[[column for name in COLUMNS for column in _matching(table, name)]]


def cleaned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `manifest_table` that stay: sample_id, filepath, split, label (final_label, else given_label)."""
    kept = table[table["action"] != EXCLUDE]
    label = kept["given_label"].astype("str").where(kept["final_label"].isna(), kept["final_label"])
    return kept[["sample_id", "filepath", "split"]].assign(label=label).reset_index(drop=True)


def counted(table: pd.DataFrame, decisions: pd.DataFrame) -> dict[str, int]:
    """Samples before and after, under each action, and decisions about samples that are no longer in the manifest."""
    actions = table["action"].value_counts()
    counts = {"before": len(table), "after": int((table["action"] != EXCLUDE).sum())}
    counts |= {name: int(actions.get(name, 0)) for name in ACTIONS}
    return counts | {"decisions_not_applied": int((~decisions.index.isin(table["sample_id"])).sum())}


def per_class(table: pd.DataFrame, clean: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Samples of each class before (by given label) and after (by label), over all splits."""
    before, after = table["given_label"].astype("str").value_counts(), clean["label"].value_counts()
    names = sorted(set(before.index) | set(after.index))
    return {name: {"before": int(before.get(name, 0)), "after": int(after.get(name, 0))} for name in names}


def _matching(table: pd.DataFrame, name: str) -> list[str]:
    columns = [str(column) for column in table]
    return [column for column in columns if (column.startswith(name[:-1]) if name.endswith("*") else column == name)]


def _meaning(column: str) -> str:
    return COLUMNS.get(column) or COLUMNS[f"{column.split('_')[0]}_*"]


def _expanded(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where `~x` is nobody's home)


def _check_outside_source(spec: str, target: Path) -> None:
    kind, _, place = spec.partition(":")
    root = _expanded(place).resolve()
    if kind == "folder" and target.resolve().is_relative_to(root):
        raise ExportError(
            f"{target} lies inside the images' own folder {root}, which would take the export for data next time. "
            "Choose a folder outside it."
        )
