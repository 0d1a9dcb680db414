"""What each command of the command line does: plain values in, plain values out (`Answer`), nothing printed.

`core.cli` parses and prints; a screen or a notebook can call the same functions.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from core.data.images import shrink
from core.data.manifest import Manifest
from core.data.sources import SOURCES, SourceOptions, fetch_source, split_spec
from core.data.sources.base import expanded, require_file
from core.data.sources.labels import alike
from core.data.sources.table import GUARDED
from core.errors import DecisionError, GradSiftError, InputError, ProjectError, SettingsError
from core.export.formats import named
from core.export.manifest import export_manifest
from core.export.report import write_report
from core.extras import make_copies
from core.findings import EVIDENCE
from core.jobs import THUMBS, JobState, Recording, recorded, state
from core.models.specs import Permissions, absolute_model, parse_model
from core.progress import Progress
from core.project import Project, ProjectConfig, Stages
from core.review.decisions import UNDECIDED, Review
from core.review.flags import Budget, share_flagged
from core.review.flags import flag as flag_rows
from core.review.present import caution, heavy_on, notes_of, plain, ranking_rows
from core.settings import SiftSettings
from core.terminal import duration, shown, standing, table

SHOWN = {
    "rank": "rank", "suspicion": "suspicion", "sample_id": "sample", "given_label": "label",
    "suggested_label": "suggested", "flagged": "flagged", "flagged_per_class": "in class",
    "action": "decision", "reason": "reason",
}  # fmt: skip
AUTO = "auto"  # back to the automatic value
AUTOMATIC = ("epochs", "image_size", "flip", "backbone", "layer", "transform")  # settings whose automatic value is None
NETWORK_SETTINGS = ("backbone", "checkpoints", "layer", "transform", "reference", "models", "grand")
FLAGGED = (
    *NETWORK_SETTINGS, "device", "seed", "epochs", "augment", "flip", "maps", "image_size", "trees",
)  # fmt: skip  # settings that `gradsift sift` takes as flags
LISTS = ("checkpoints", "grand")  # settings whose automatic value is an empty list
COPIES = "copies"
PROBED = 512  # images that tell what a source would cost

if TYPE_CHECKING:
    from core.estimate import Estimate
    from core.pipeline import Plan
else:
    Estimate: TypeAlias = Any  # importing them would load torch
    Plan: TypeAlias = Any


@dataclass(frozen=True)
class Answer:
    """What a command says: `data` for `--json`, `text` for people."""

    data: Any
    text: str


def new(
    folder: Path,
    source: str,
    *,
    model: str = "reference",
    labels: str | None = None,
    classes: Path | None = None,
    val_fraction: float = 0.1,
    limit: int | None = None,
    columns: Mapping[str, str | None] | None = None,
    meta_columns: Sequence[str] = (),
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Answer:
    """Read and check a source, and write the project.

    `settings` are those of `SiftSettings` that are to differ from the defaults, None for those that are not;
    `meta_columns` are columns that travel along; `download` allows this call to fetch the source.
    """
    model, chosen = absolute_model(model), _settings(SiftSettings(seed=seed), settings or {})
    _check_models(model, chosen, progress or Progress())
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProjectError(f"{folder} exists and is not empty. Choose another folder, or delete it first.")
    head, place = split_spec(absolute(source))
    if head == "folder:" and folder.resolve().is_relative_to(Path(place).resolve()):
        raise ProjectError(
            f"{folder} lies inside the images' folder {place}, which is only read. Choose a place outside it."
        )
    _fetch(source, download)
    manifest = Manifest.read(
        absolute(source), options=_options(columns, meta_columns, seed), labels=labels, classes=classes,
        val_fraction=val_fraction, limit=limit, seed=seed, progress=progress,
    )  # fmt: skip
    config = ProjectConfig(manifest.source.spec, model=model, labels=labels or "", settings=chosen)
    project = Project.create(folder, manifest, config)
    return _described(project, manifest)


def cost_of_source(
    source: str, *, model: str = "reference", labels: str | None = None, classes: Path | None = None,
    val_fraction: float = 0.1, limit: int | None = None, columns: Mapping[str, str | None] | None = None,
    meta_columns: Sequence[str] = (), seed: int = 0, settings: Mapping[str, Any] | None = None,
    download: bool = False, progress: Progress | None = None,
) -> Answer:  # fmt: skip
    """Say what a run on a source would take, before a project of it is made: from some of its images."""
    from core.data.sources import open_source
    from core.estimate import estimate

    progress, options = progress or Progress(), _options(columns, meta_columns, seed)
    model, chosen = absolute_model(model), _settings(SiftSettings(seed=seed), settings or {})
    _check_models(model, chosen, progress)
    _fetch(source, download)
    count = len(open_source(absolute(source), options).rows().frame)
    some = Manifest.read(
        absolute(source), options=options, labels=labels, classes=classes, val_fraction=val_fraction,
        limit=min(limit or PROBED, PROBED), seed=seed, progress=progress,
    )  # fmt: skip
    with TemporaryDirectory(prefix="gradsift-probe-") as folder:
        rows = max(min(count, limit or count), len(some))
        permissions = Permissions.from_environment(download=download)
        stages = Stages(Path(folder))
        return _costs(estimate(some, chosen, stages, progress, rows, model=model, permissions=permissions))


def absolute(spec: str) -> str:
    """Make the path in a source's spec absolute, so that a project opens from any folder."""
    head, path = split_spec(spec)
    return f"{head}{expanded(path).absolute()}" if path else spec


def _options(columns: Mapping[str, str | None] | None, meta_columns: Sequence[str], seed: int) -> SourceOptions:
    return SourceOptions(**dict(columns or {}), meta_columns=tuple(meta_columns), seed=seed)


def _fetch(source: str, download: bool) -> None:
    """Download a source where that was allowed and there is anything to download; weights are fetched by a run."""
    kind = next((each for each in SOURCES if each.name == source.partition(":")[0]), None)
    if download and kind is not None and kind.fetch is not None:
        fetch_source(absolute(source))


def _settings(before: SiftSettings, changes: Mapping[str, Any]) -> SiftSettings:
    """Return the settings with what was named; paths in them are made absolute.

    Raises:
        SettingsError: a value is out of range.
        ModelError: the backbone is of no known form.
    """
    asked = _asked(changes)
    if asked.get("backbone"):
        asked["backbone"] = absolute_model(asked["backbone"])
    if asked.get("checkpoints"):
        asked["checkpoints"] = tuple(str(expanded(path).absolute()) for path in asked["checkpoints"])
    return replace(before, **asked)


def _check_models(model: str, settings: SiftSettings, progress: Progress) -> None:
    """Look at what models name before anything is computed: permission, files, and code of a person's own, said so.

    Raises:
        ModelError: a model asks for more than is permitted.
        InputError: a file of weights is not there.
    """
    permissions = Permissions.from_environment()
    for text in filter(None, (model, settings.backbone)):
        spec = parse_model(text)
        permissions.check(spec)
        if spec.file is not None and not (spec.kind == "dynamics" and spec.file.is_dir()):
            require_file(spec.file, "The model's file")
        if spec.kind == "code":
            progress.note(f"{spec.callable[0]} is your own code: a run imports it and calls {spec.callable[1]}.")
    for path in settings.checkpoints:
        permissions.check(replace(parse_model(model), weights=path))
        require_file(Path(path), "The checkpoint")


def _described(project: Project, manifest: Manifest) -> Answer:
    splits = manifest.rows["split"].value_counts()
    per_class = manifest.rows["given_label"].value_counts().reindex(manifest.classes, fill_value=0)
    data = {
        "project": str(project.folder), "images": len(manifest), "problems": len(manifest.problems),
        "classes": {str(name): int(count) for name, count in per_class.items()},
        "splits": {str(name): int(count) for name, count in splits.items()},
        "alike": [list(names) for names in alike(manifest.classes)],
    }  # fmt: skip
    lines = [
        f"{len(manifest):,} images of {len(manifest.classes)} classes in {project.folder}",
        "splits: " + ", ".join(f"{name} {count:,}" for name, count in splits.items()),
        f"classes: {_shortened(per_class)}",
    ]
    for names in alike(manifest.classes):
        told = " and ".join(map(repr, names))
        lines.append(
            f"{told} differ in case or spaces only and count as {len(names)} classes; mend the labels if not so"
        )
    if len(manifest.problems):
        reasons = manifest.problems["reason"].value_counts()
        lines.append(f"set aside: {len(manifest.problems):,} ({_shortened(reasons)}); see gradsift problems")
    lines.append(f"next: gradsift sift {project.folder}")
    return Answer(data, "\n".join(lines))


def _shortened(counts: pd.Series, most: int = 12) -> str:
    listed = ", ".join(f"{shown(name)} {count:,}" for name, count in counts.head(most).items())
    return listed + (f" and {len(counts) - most:,} more" if len(counts) > most else "")


def sift(
    project: Project, changes: Mapping[str, Any], budget: str | None, progress: Progress, model: str | None = None,
    *, download: bool = False,
) -> Answer:  # fmt: skip
    """Run every stage that is not there yet. `download` allows this call to fetch weights; it is never stored."""
    with recorded(project, "sift", progress) as run:
        from core.pipeline import sift as run_stages  # torch is loaded only by the commands that compute

        project = _configured(project, changes, budget, model, run)
        _tell_device(project, run)
        _say_needs(project, run)
        begin = time.perf_counter()
        _make_thumbs(project, run)
        permissions = Permissions.from_environment(download=download)
        findings = run_stages(project, project.config.model, progress=run, permissions=permissions)
        _find_copies(project, run)
        seconds = time.perf_counter() - begin
    flagged = flag_rows(findings.samples, "suspicion", Budget.parse(project.config.budget))
    rule = findings.run["suspicion"]
    data = {
        "project": str(project.folder), "images": len(findings), "flagged": int(flagged["flagged"].sum()),
        "seconds": round(seconds, 2), "suspicion": rule, "stages": findings.run["stages"],
        "notes": notes_of(findings.run),
    }  # fmt: skip
    text = (
        f"{int(flagged['flagged'].sum()):,} of {len(flagged):,} training images flagged "
        f"(budget {project.config.budget}), {duration(seconds)}\n"
        f"suspicion rests on {' and '.join(rule['scores'])}: {rule['why']}\n"
        f"next: gradsift show {project.folder}"
    )
    said = [caution(findings.run), *notes_of(findings.run)]
    return Answer(data, "\n".join([*filter(None, said), text]))


def _make_thumbs(project: Project, run: Recording) -> None:
    """Make the thumbnails that are missing. Where the images are away it is said: scores that are there need none."""
    from core.data.thumbs import make_thumbs

    try:
        make_thumbs(project.manifest(), project.folder / THUMBS, run)
    except InputError as error:
        run.note(f"No thumbnails were made. {error}")
    run.ended(THUMBS)


def _find_copies(project: Project, run: Recording) -> None:
    """Look for copies among the images. They are no part of the ranking: what keeps them from being found is said."""
    try:
        make_copies(project, run)
    except (InputError, ProjectError) as error:
        run.note(f"Copies were not looked for. {error}")
    run.ended(COPIES)


def _tell_device(project: Project, run: Recording) -> None:
    """Say where the run computes, and how to ask an accelerator for its memory."""
    import torch

    from core.models.device import choose

    settings = project.config.settings
    compute = choose(settings.device, settings.precision)
    run.tell(settings=settings.as_dict(), **compute.describe())
    if compute.device.type == "cuda":
        run.gauge(lambda: torch.cuda.memory_reserved() // 10**6)
    elif compute.device.type == "mps":
        run.gauge(lambda: torch.mps.driver_allocated_memory() // 10**6)


def _say_needs(project: Project, progress: Recording) -> None:
    """Say what a run needs before it starts, and refuse where it makes no sense or the disk cannot hold it."""
    from core.estimate import space
    from core.pipeline import plan_of

    manifest, planned = project.manifest(), plan_of(project)
    progress.plan(planned.keys)
    _check_trainings(planned, project.config.settings)
    if all(project.stages.find(name, key) for name, key in planned.keys.items()):
        return
    memory, disk = space(manifest, planned)
    training = f", {planned.epochs} epochs at {planned.side} pixels" if planned.trains else ""
    progress.note(
        f"{int(manifest.train.sum()):,} images to train on{training}; "
        f"at most about {memory:,} MB of memory and {disk:,} MB of disk"
    )
    free = shutil.disk_usage(project.folder).free // 10**6
    if free < disk:
        raise ProjectError(
            f"The run needs about {disk:,} MB of disk and {project.folder} has {free:,} MB free. Make room, then go on."
        )


def _check_trainings(planned: Plan, settings: SiftSettings) -> None:
    """Raise SettingsError where several trainings are asked for and nothing is trained here."""
    if settings.models > 1 and not planned.trains:
        beside = "" if settings.reference else ", or let the reference network be trained beside it (--reference)"
        raise SettingsError(
            f"{settings.models} trainings were asked for, and with {planned.model} nothing is trained here: they would "
            f"be one and the same. Take it back with --models 1{beside}."
        )


def _asked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were named, `AUTO` as None where that is the automatic value."""
    told = {name: value for name, value in changes.items() if value is not None}
    told |= {name: () if list(told[name]) == [AUTO] else tuple(told[name]) for name in LISTS if name in told}
    return {name: None if name in AUTOMATIC and value == AUTO else value for name, value in told.items()}


def _configured(
    project: Project, changes: Mapping[str, Any], budget: str | None, model: str | None, progress: Progress
) -> Project:
    if budget is not None:
        Budget.parse(budget)
    settings = _settings(project.config.settings, changes)
    model = absolute_model(model) if model else project.config.model
    _check_models(model, settings, progress)
    before = project.config
    if (settings, model) == (before.settings, before.model) and budget in (None, before.budget):
        return project
    from core.models.device import choose
    from core.pipeline.planning import kept_in, plan

    choose(settings.device, settings.precision)  # what is not there is refused before anything is written down
    _check_trainings(plan(project.manifest(), settings, model, kept_in(project)), settings)  # and does not go together
    with project.lock():
        return project.with_config(settings=settings, model=model, budget=budget or before.budget)


def cost(
    project: Project, changes: Mapping[str, Any], progress: Progress, model: str | None = None,
    *, download: bool = False,
) -> Answer:  # fmt: skip
    """Say what a run would take, from a short probe; nothing is kept."""
    from core.estimate import estimate
    from core.pipeline.planning import kept_in, plan

    settings = _settings(project.config.settings, changes)
    model = absolute_model(model) if model else project.config.model
    _check_models(model, settings, progress)
    _check_trainings(plan(project.manifest(), settings, model, kept_in(project)), settings)
    permissions = Permissions.from_environment(download=download)
    found = estimate(
        project.manifest(), settings, project.stages, progress, model=model, kept=kept_in(project),
        permissions=permissions,
    )  # fmt: skip
    return _costs(found)


def _costs(found: Estimate) -> Answer:
    rows: list[dict[str, object]] = [
        {"stage": name, "time": "done" if seconds == 0 else f"about {duration(seconds)}"}
        for name, seconds in found.seconds.items()
    ]
    text = (
        f"{table(rows, {'stage': 'stage', 'time': 'time'})}\n"
        f"about {duration(sum(found.seconds.values()))} in all, {found.memory_mb:,} MB of memory, "
        f"{found.disk_mb:,} MB of disk, on {found.device}"
    )
    data = {"seconds": found.seconds, "memory_mb": found.memory_mb, "disk_mb": found.disk_mb, "device": found.device}
    return Answer(data, text)


def show(project: Project, top: int, score: str, budget: str | None) -> Answer:
    """The ranking with reasons, flags and decisions."""
    findings = project.findings()
    decided = Review(project, read_only=True).current()
    budget = budget or project.config.budget
    rows = ranking_rows(findings.table(), decided, score, budget, top)
    columns = SHOWN if score == "suspicion" else {**SHOWN, "score": score}
    shares = share_flagged(flag_rows(findings.samples, score, Budget.parse(budget)))
    uneven = shown(", ".join(heavy_on(shares)))
    note = f"\na budget of {budget} falls heavily on {uneven}: rare or hard is not wrong" if uneven else ""
    return Answer(rows, table(list(rows), columns) + note)


def scores(project: Project, out: Path) -> Answer:
    """Write one row per sample: labels, suspicion, the sentence, every score, raw value and spread."""
    frame = project.findings().table().reset_index()
    names = [str(name) for name in frame if str(name).startswith(("score_", "raw_", "spread_"))]
    frame = frame[["sample_id", *EVIDENCE, *names]]
    (form,) = named([out.suffix.lstrip(".").lower()])
    kind, _, place = project.config.source_spec.partition(":")
    source, target = Path(place).resolve(), out.resolve()
    if place and (target == source or (kind == "folder" and target.is_relative_to(source))):
        raise InputError(f"{out} belongs to the source {project.config.source_spec}, only read. Write elsewhere.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"The folder {out.absolute().parent} does not exist. Make it, or write elsewhere.")
    aside = out.with_name(f".{out.name}.part")
    try:
        form.write(frame, aside)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return Answer({"file": str(out), "rows": len(frame)}, f"{len(frame):,} rows in {out}")


def problems(project: Project) -> Answer:
    """Every input that was set aside."""
    rows = plain(project.manifest().problems[["sample_id", "filepath", "reason"]])
    return Answer(
        rows, table(list(rows), {"sample_id": "sample", "reason": "reason"}) if rows else "Nothing was set aside."
    )


def decide(
    project: Project, samples: Sequence[str], action: str | None, label: str | None, table_file: Path | None,
    reviewer: str | None, note: str | None,
) -> Answer:  # fmt: skip
    """Record one batch of decisions, from arguments or from a CSV file."""
    review = Review(project, reviewer=reviewer)
    if table_file is not None:
        if samples or action or label:
            raise DecisionError("A file and --sample, --action or --label were given together. Use one or the other.")
        decided = review.current().index
        told = [e for e in _events(table_file) if e["action"] != UNDECIDED or e["sample_id"] in decided]
        events: list[dict[str, Any]] = [{**event, "note": event.get("note") or note} for event in told]
        batch, count = review.decide_many(_with_suspicion(project, events)), len(events)
    elif samples and action:
        events = [{"sample_id": sample, "action": action, "label": label, "note": note} for sample in samples]
        batch, count = review.decide_many(_with_suspicion(project, events)), len(dict.fromkeys(samples))
    else:
        raise DecisionError("Nothing to decide. Name samples with --sample and an --action, or a file with --from.")
    data = {"batch": batch, "decided": count, "reviewer": review.reviewer}
    return Answer(data, f"{count:,} decided by {review.reviewer}; take it back with gradsift undo {project.folder}")


def _events(file: Path) -> list[dict[str, str]]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}). Give a CSV file in UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        lines = list(reader)
    except csv.Error as error:
        raise InputError(f"{file} cannot be read (line {reader.line_num}: {error}). Give a CSV file.") from error
    missing = {"sample_id", "action"} - set(reader.fieldnames or ())
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "none"
        raise InputError(f"{file} has no column {sorted(missing)[0]!r}, only: {found}. It needs sample_id and action.")
    # An export put an apostrophe before what a spreadsheet would run; here it comes off again.
    rows = [{key: GUARDED.sub("", value) for key, value in row.items() if key and value} for row in lines]
    for number, row in enumerate(rows, 1):
        if not {"sample_id", "action"} <= set(row):
            raise InputError(f"{file} has no sample_id or no action in row {number}. Fill it in, or take the row out.")
    for row in rows:
        if "final_label" in row:
            row.setdefault("label", row["final_label"])
    return [{name: row[name] for name in ("sample_id", "action", "label", "note") if name in row} for row in rows]


def _with_suspicion(project: Project, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Note beside each decision how suspicious the sample was when it was made."""
    if not project.sifted:
        return [dict(event) for event in events]
    suspicion = project.findings().samples["suspicion"]
    return [{"suspicion": suspicion.get(str(event["sample_id"])), **event} for event in events]


def undo(project: Project, reviewer: str | None) -> Answer:
    """Take back the reviewer's own last batch."""
    review = Review(project, reviewer=reviewer)
    batch = review.undo()
    return Answer({"batch": batch, "reviewer": review.reviewer}, f"taken back: batch {batch} of {review.reviewer}")


def redo(project: Project, reviewer: str | None) -> Answer:
    """Bring back the batch the reviewer undid last."""
    review = Review(project, reviewer=reviewer)
    batch = review.redo()
    return Answer({"batch": batch, "reviewer": review.reviewer}, f"brought back: batch {batch} of {review.reviewer}")


def export(project: Project, to: Path | None, formats: Sequence[str]) -> Answer:
    """Write the cleaned manifest into a new folder."""
    target = to or project.exports / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%f")
    result = export_manifest(project, target, formats)
    files = [{"name": file.name, "bytes": file.size, "sha256": file.sha256} for file in result.files]
    counts = result.counts
    text = (
        f"{counts['after']:,} of {counts['before']:,} samples in {result.folder}: {counts['exclude']:,} excluded, "
        f"{counts['relabel']:,} relabelled, {counts['keep']:,} kept, {counts['unsure']:,} unsure, "
        f"{counts['undecided']:,} undecided\n"
        + table(list(files), {"name": "file", "bytes": "bytes", "sha256": "sha256"})
    )
    return Answer({"folder": str(result.folder), "counts": dict(counts), "files": files}, text)


def report(project: Project, to: Path, *, top: int = 8, force: bool = False) -> Answer:
    """Write a report to hand over: one HTML file with everything inside."""
    manifest = project.manifest()
    thumbs, large = (partial(_images_of, manifest, longest) for longest in (96, 320))
    path, size = write_report(project, to, thumbs, large=large, top=top, force=force)
    return Answer({"file": str(path), "bytes": size}, f"{path} ({size / 1e6:.1f} MB), complete in itself")


def _images_of(manifest: Manifest, longest: int, ids: list[str]) -> dict[str, bytes | None]:
    """Encode images small; None for one that cannot be read, or is not the image that was scored."""
    digests = dict(zip(manifest.ids, manifest.rows["sha256"], strict=True))
    found: dict[str, bytes | None] = dict.fromkeys(ids)
    with suppress(InputError):  # the whole source may be away: the report is made without pictures
        for sample, data in manifest.source.read(list(found)):
            if isinstance(data, bytes) and hashlib.sha256(data).hexdigest() == digests.get(sample):
                with suppress(InputError):
                    found[sample] = shrink(data, longest)
    return found


def status(project: Project) -> Answer:
    """What is there, what runs, and what is next."""
    manifest = project.manifest()
    decided = Review(project, read_only=True).current()
    exports = sorted(path.name for path in project.exports.iterdir()) if project.exports.is_dir() else []
    now = state(project)
    data: dict[str, Any] = {
        "project": str(project.folder), "images": len(manifest), "problems": len(manifest.problems),
        "classes": len(manifest.classes), "sifted": project.sifted, "running": now.running,
        "settings": project.config.settings.as_dict(), "budget": project.config.budget,
        "decisions": {str(name): int(count) for name, count in decided["action"].value_counts().items()},
        "exports": exports, "run": _run_data(now),
    }  # fmt: skip
    lines = [f"{len(manifest):,} images of {len(manifest.classes)} classes, {len(manifest.problems):,} set aside"]
    if project.sifted:
        run = project.run
        data["suspicion"] = run["suspicion"]
        lines.append(
            f"scored; suspicion rests on {' and '.join(run['suspicion']['scores'])}: {run['suspicion']['why']}"
        )
    lines.append(_run_line(now))
    made = ", ".join(f"{name} {count:,}" for name, count in data["decisions"].items()) or "none"
    lines.append(f"decisions: {made}; exports: {len(exports)}")
    if waiting := _waiting(project, manifest):
        data["to_do"] = waiting
        if differs := _not_scored(project):
            data["not_scored"] = differs
            lines.append(
                f"asked for since, and not scored: {shown(differs['asked'])}; to take it back: "
                f"{shown(differs['take_back'])}"
            )
        lines.append(
            f"to go on, mend this first: {waiting['problem']}"
            if "problem" in waiting
            else f"to go on{' with it' if differs else ''}: {', '.join(waiting['stages'])}; about "
            f"{waiting['memory_mb']:,} MB of memory and {waiting['disk_mb']:,} MB of disk; "
            "gradsift sift --dry-run measures the time"
        )
    step = "show" if project.sifted else "sift"
    lines.append(f"next: gradsift {step} {project.folder}")
    return Answer(data, "\n".join(lines))


def _run_data(now: JobState) -> dict[str, Any]:
    shown_stages = [{"name": name, "status": status, "seconds": seconds} for name, status, seconds in now.stages]
    return {**asdict(now), "stages": shown_stages, "curve": list(now.curve), "notes": list(now.notes)}


def _run_line(now: JobState) -> str:
    """Say where a run stands, or how the last one ended."""
    if now.running:
        parts = ["a run is working on it now" if now.phase == "running" else f"a run is {now.phase}"]
        if now.stage:
            parts += standing(now.stage, now.done, now.total, now.unit, now.rate, now.seconds_left)
        return " · ".join([*parts, *filter(None, [now.message])])
    how = {"stopped": "was stopped", "failed": f"failed: {now.message}", "died": f"ended without a word. {now.message}"}
    last = f"; the last one {how[now.phase]}" if now.phase in how else ""
    return f"no run is working on it{last}"


def _not_scored(project: Project) -> dict[str, str]:
    """Return what was asked for since the scores were made, as flags, and the command back; empty where nothing was."""
    if not project.sifted:
        return {}
    run, config = project.run, project.config
    scored, now = dict(run.get("settings") or {}), config.settings.as_dict()
    names = [name for name in FLAGGED if name in scored and scored[name] != now[name]]
    asked, back = ([word for name in names for word in _flag(name, of[name])] for of in (now, scored))
    model = _scored_model(project, run)
    if model is not None and model != config.model:
        asked, back = ["--model", config.model, *asked], ["--model", model, *back]
    command = shlex.join(["gradsift", "sift", str(project.folder), *back])
    return {"asked": shlex.join(asked), "take_back": command} if asked else {}


def _scored_model(project: Project, run: Mapping[str, Any]) -> str | None:
    """Return the spec of the model that the scores are of; None where that is no longer on record."""
    key = run.get("stages", {}).get("network")
    if key is None:
        return str(run["network"]) if "network" in run else None
    folder = project.stages.find("network", key)
    return None if folder is None else str(json.loads((folder / "run.json").read_text())["model"])


def _flag(name: str, value: Any) -> list[str]:
    """Return a setting as it is said to `gradsift sift`."""
    flag = f"--{name.replace('_', '-')}"
    if name == "flip" and value is None:
        return ["--flip-as-source"]
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list):
        return [flag, *(value or [AUTO])]
    return [flag, AUTO if value is None else str(value)]


def _waiting(project: Project, manifest: Manifest) -> dict[str, Any]:
    """Return the stages that are not there yet, and the space that a run takes; empty where all is done."""
    from core.estimate import space
    from core.pipeline import plan_of

    try:
        planned = plan_of(project)
    except GradSiftError as error:  # its model's file is gone, say: what is there can be looked at all the same
        return {"stages": [], "problem": str(error)}
    stages = [name for name, key in planned.keys.items() if project.stages.find(name, key) is None]
    memory, disk = space(manifest, planned)
    return {"stages": stages, "memory_mb": memory, "disk_mb": disk} if stages else {}
