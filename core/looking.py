"""What the commands answer that look at more than the ranking: copies, groups and image facts.

As in `core.commands`, plain values in, an `Answer` out, nothing printed.
"""

from __future__ import annotations

from core import extras
from core.commands import Answer
from core.progress import Progress
from core.project import Project
from core.review import copies as copied
from core.review import groups as grouped
from core.review.decisions import Review
from core.review.flags import SUSPICION, Budget, flag
from core.review.marks import facts_of
from core.terminal import shown, table

COPY_COLUMNS = {
    "group": "group", "id": "sample", "label": "label", "split": "split", "kind": "copy", "difference": "difference",
    "action": "decision",
}  # fmt: skip
GROUP_COLUMNS = {
    "value": "value", "images": "images", "flagged": "flagged", "share": "share", "between": "95 % between",
    "reviewed": "reviewed", "wrong": "found wrong", "wrong_share": "share wrong", "wrong_between": "95 % between",
}  # fmt: skip
FACT_COLUMNS = {"sample_id": "sample", "facts": "facts", "given_label": "label", "split": "split"}


def copies(project: Project, top: int, progress: Progress) -> Answer:
    """The groups of images that show one picture twice, worked out now unless a run has done so."""
    found = extras.make_copies(project, progress)
    decided = Review(project, read_only=True).current()
    groups = copied.copy_groups(found, project.findings().samples, decided)
    counts = copied.summed(groups)
    if not groups:
        return Answer({**counts, "shown": []}, copied.sentence(counts))
    rows: list[dict[str, object]] = [
        {**sample, "group": number, "difference": f"{sample['difference']:.3f}"}
        for number, group in enumerate(groups[: max(top, 0)], 1)
        for sample in group["samples"]
    ]
    text = f"{copied.sentence(counts)}\n{table(rows, COPY_COLUMNS)}"
    return Answer({**counts, "shown": groups[: max(top, 0)]}, text)


def groups(project: Project, by: str | None, score: str = SUSPICION, budget: str | None = None) -> Answer:
    """The flagged and the confirmed share of each value of a column, or of each column there is."""
    manifest, decided = project.manifest(), Review(project, read_only=True).current()
    flagged = flag(project.findings().samples, score, Budget.parse(budget or project.config.budget))
    columns = (by,) if by else grouped.columns_of(manifest.rows)
    data, texts = {}, []
    for column in columns:
        lines = grouped.by_value(flagged, decided, manifest.rows, column)
        said = grouped.sentence(lines, column)
        data[column] = {"sentence": said, "values": lines}
        texts.append(f"{shown(said)}\n{table([_group_row(line) for line in lines], GROUP_COLUMNS)}")
    return Answer(data, "\n\n".join(texts))


def _group_row(line: dict[str, object]) -> dict[str, object]:
    """A line of `by_value` as a person reads it."""
    share, between = _spoken(line["flagged_share"])
    wrong_share, wrong_between = _spoken(line["wrong_share"])
    return {**line, "share": share, "between": between, "wrong_share": wrong_share, "wrong_between": wrong_between}


def _spoken(interval: object) -> tuple[str, str]:
    if not isinstance(interval, dict):
        return "", ""
    return f"{interval['share']:.0%}", f"{100 * interval['low']:.0f} and {interval['high']:.0%}"


def facts(project: Project, top: int, progress: Progress) -> Answer:
    """The images with a fact worth knowing, worked out now unless that was done."""
    found = extras.make_facts(project, progress)
    told = facts_of(found)
    words = told[told != ""].str.split(", ").explode().value_counts()
    counts = {str(word): int(count) for word, count in words.items()}
    rows = project.manifest().rows.set_index("sample_id")[["given_label", "split"]]
    listed = told[told != ""].to_frame("facts").join(rows).reset_index().head(max(top, 0))
    lines: list[dict[str, object]] = [
        {str(name): value for name, value in row.items()} for row in listed.to_dict("records")
    ]
    summary = ", ".join(f"{word} {count:,}" for word, count in counts.items()) or "nothing odd"
    text = f"{len(found):,} images looked at: {summary}" + (f"\n{table(lines, FACT_COLUMNS)}" if lines else "")
    return Answer({"images": len(found), "counts": counts, "shown": lines}, text)
