"""A report to hand over: one HTML file with everything inside, readable without script, printable, fetching nothing.

    write_report(project, "pets.html", images=thumbnails)

The page is the slides of `core.export.slides`, each part followed by its details. A small script adds a Present
button, which shows the slides one by one; without script the page is whole all the same. A content security policy
in the page lets only that script and that style work, and no request leave.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from core.errors import ExportError
from core.export.markup import (
    Images,
    arrow,
    badge,
    counted,
    element,
    facts,
    listed,
    name,
    paragraph,
    percent,
    plain,
    table,
    text,
)
from core.export.proof import proof_details
from core.export.slides import (
    PAIRS_ON_SLIDES,
    PARTS,
    STRIP,
    Slide,
    decided_strip,
    map_block,
    map_title,
    pair_block,
    slides,
)
from core.export.story import RIVAL_TITLES, Story, homeless, tell
from core.review.decisions import ACTIONS, EXCLUDE, KEEP, RELABEL
from core.review.present import plain as plain_rows
from core.verify.arms import DECIDED
from core.verify.record import FULL, TRAINING, UNCHANGED

if TYPE_CHECKING:
    from core.project import Project
else:
    Project: TypeAlias = Any  # whatever has the attributes used here: importing the class costs more than it gives

MOST_PAIRS = 24
MOST_DECISIONS = 60
ENDINGS = (".html", ".htm")
MOST_CLASSES = 200


def write_report(
    project: Project,
    to: str | Path,
    images: Images,
    *,
    large: Images | None = None,
    top: int = 8,
    force: bool = False,
) -> tuple[Path, int]:
    """Write the report of a project into the new file `to`, whole or not at all; returns it and its size in bytes.

    Args:
        project: the project; its source and its log are only read.
        to: ends in .html; outside the source's own folder of images.
        images: gives thumbnails by id.
        large: gives larger ones, for the slides; by default the same.
        top: images of each class pair.
        force: replace a file that is there.

    Raises:
        ExportError: the file exists, has another ending, lies inside the source, or the disk refuses.
        ProjectError: the project has no scores yet, or is damaged.
    """
    target = Path(os.path.expanduser(to)).absolute()  # noqa: PTH111 (Path.expanduser raises where `~x` is nobody's home)
    _check(target, project.config.source_spec, force)
    page = report_bytes(project, images, large=large, top=top)
    aside = target.with_name(f".{target.name}.part")
    try:
        with aside.open("wb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        raise ExportError(
            f"The report {target} cannot be written ({error}); nothing was left there. "
            "Free some space, or choose another place."
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return target, len(page)


def report_bytes(project: Project, images: Images, *, large: Images | None = None, top: int = 8) -> bytes:
    """The file that `write_report` writes, for a download."""
    return report_html(tell(project), images, large=large, top=top).encode("utf-8")


def _check(target: Path, spec: str, force: bool) -> None:
    if target.suffix.lower() not in ENDINGS:
        raise ExportError(f"{target} does not end in .html. A report is one HTML file: name it so.")
    kind, _, place = spec.partition(":")
    root = Path(place).resolve()
    if kind == "folder" and target.resolve().is_relative_to(root):
        raise ExportError(f"{target} lies inside the images' own folder {root}, which is only read. Write elsewhere.")
    if not target.parent.is_dir():
        raise ExportError(f"The folder {target.parent} does not exist. Make it, or write elsewhere.")
    if target.is_dir():
        raise ExportError(f"{target} is a folder. Name a file for the report.")
    if (target.exists() or target.is_symlink()) and not force:
        raise ExportError(f"{target} exists. Choose another name, or replace it with --force.")


def report_html(story: Story, images: Images, *, large: Images | None = None, top: int = 8) -> str:
    """The whole page as text."""
    shown = slides(story, large or images, top)
    extra = details(story, images, top)
    parts = [part for part in PARTS if extra.get(part) or any(slide.part == part for slide in shown)]
    extra = {**extra, "reproduce": reproduce(story)}
    contents = listed([f'<a href="#{part}">{text(PARTS[part])}</a>' for part in parts] + _LAST_LINK, "ol")
    body = "".join(section(part, [s for s in shown if s.part == part], extra.get(part, "")) for part in parts)
    style, script = asset("slides.css") + asset("report.css"), asset("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="GradSift {text(story.version)}">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(story.name)}: GradSift report</title>\n<style>{style}</style>\n</head>\n"
        f'<body class="deck">\n<header><h1>{name(story.name)}</h1>\n{paragraph(made(story), "muted")}'
        f'<nav aria-label="Contents">{contents}</nav></header>\n<main>\n{body}'
        f'<section id="reproduce" class="part"><h2>How to make this again</h2>{extra["reproduce"]}</section>\n'
        f'</main>\n<footer><p class="muted">{text(made(story))} Everything shown is inside this file.</p></footer>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


_LAST_LINK = ['<a href="#reproduce">How to make this again</a>']


def made(story: Story) -> str:
    """By what and when."""
    return f"Report by GradSift {story.version}, {story.made_at:%d %B %Y, %H:%M} UTC."


def section(part: str, shown: Sequence[Slide], extra: str) -> str:
    """One part of the page: its heading, its slides, its details."""
    several = len(shown) > 1
    blocks = []
    for slide in shown:
        level = 3 if several else 2
        blocks.append(
            f'<div class="slide {part}" role="group" aria-label="{text(slide.title)}">'
            f"<h{level}>{text(slide.title)}</h{level}>{slide.html}</div>"
        )
    heading = element("h2", text(PARTS[part]), "detail") if several or not shown else ""
    return (
        f'<section id="{part}" class="part">{heading}{"".join(blocks)}'
        f"{element('div', extra, 'detail') if extra else ''}</section>\n"
    )


# The details of each part


def details(story: Story, images: Images, top: int = 8) -> dict[str, str]:
    """What the page says beyond the slides, as HTML under the name of its part."""
    return {
        "looked": facts(looked_at(story)),
        "headline": overlap_table(story),
        "map": "".join(element("h3", text(map_title(each))) + map_block(each, story) for each in story.maps[1:])
        or ("" if story.maps else paragraph("This run was told to draw no maps.")),
        "pairs": more_pairs(story, images, top),
        "decided": decision_details(story, images),
        "proof": proof_details(story.proof) if story.proof else "",
    }


def looked_at(story: Story) -> list[tuple[str, str]]:
    """Source, counts, settings and the rule of the ranking, as terms with HTML."""
    run, rule = story.run, dict(story.run.get("suspicion", {}))
    settings = {key: value for key, value in dict(run.get("settings", {})).items() if value is not None}
    rows = [
        ("Source", f"<code>{text(story.source)}</code>"),
        ("Labels from", f"<code>{text(story.labels)}</code>" if story.labels else "the source itself"),
        ("Splits", text(", ".join(f"{split} {count:,}" for split, count in story.splits.items()))),
        ("Classes", text(", ".join(map(plain, story.classes[:MOST_CLASSES])))),
        ("Set aside", _set_aside(story.set_aside)),
        ("Flagged", text(f"the first {story.budget} of the training images by suspicion")),
    ]
    if rule:
        why = f"{' and '.join(map(str, rule.get('scores', ())))}, weighed by evidence: {rule.get('why', '')}"
        rows.append(("Suspicion", text(why)))
    rows += [
        (title, text(run[key]))
        for title, key in (("Training", "epochs"), ("Device", "device"), ("Number type", "precision"))
        if key in run
    ]
    rows = [(term, f"{value} epochs" if term == "Training" else value) for term, value in rows]
    said = ", ".join(f"{key} {_plainly(value)}" for key, value in settings.items())
    rows.append(("Settings", text(said) if said else "as they come"))
    rows.append(("Tool", text(f"GradSift {run.get('tool', story.version)}, torch {run.get('torch', 'not recorded')}")))
    return rows


def _set_aside(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "nothing"
    return listed([f"{count:,} × {text(reason)}" for reason, count in list(reasons.items())[:12]])


def _plainly(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def overlap_table(story: Story) -> str:
    """How far the rankings by outlier gradients flag the same images."""
    if not story.overlaps:
        return ""
    rows = [
        [text(RIVAL_TITLES[each.name]), f"{each.flagged:,}", f"{each.both:,}", percent(each.jaccard)]
        for each in story.overlaps
    ]
    said = (
        f"Suspicion flags {len(story.flagged):,}. The rankings by outlier gradients flag as many by another measure: "
        "an image that several of them flag stands out in more than one way."
    )
    head = ["Ranking by", "Flagged", "Also by suspicion", "Shared of all flagged by either"]
    return (
        element("h3", "Flags by outlier gradients")
        + paragraph(said)
        + table(head, rows, "Overlap of the flags at the same budget", numbers=(1, 2, 3))
    )


def more_pairs(story: Story, images: Images, top: int) -> str:
    """The class pairs beyond the slides."""
    pairs = story.pairs
    if not pairs:
        return paragraph("No flagged image has a suggested class other than its own.")
    blocks = [
        f'<div class="pair"><h4>{arrow(pair.given, pair.suggested)} '
        f'<span class="muted">{counted(pair.count, "flagged image")}</span></h4>'
        f"{pair_block(pair, story, images, top)}</div>"
        for pair in pairs[PAIRS_ON_SLIDES:MOST_PAIRS]
    ]
    left = len(pairs) - MOST_PAIRS
    more = paragraph(f"and {counted(left, 'class pair')} more, in the app", "muted") if left > 0 else ""
    return f'<h3>More class pairs</h3><div class="pairs-grid">{"".join(blocks)}</div>{more}' if blocks else ""


def decision_details(story: Story, images: Images) -> str:
    """By whom and when, what it does to each class, images that change, and the list of decisions."""
    if story.decisions.empty:
        return ""
    people = story.reviewers
    who = [
        [name(reviewer), *(f"{int(row[action]):,}" for action in list(ACTIONS)[1:]),
         moment(row["first"]), moment(row["last"])]
        for reviewer, row in people.iterrows()
    ]  # fmt: skip
    return (
        element("h3", "By whom, and when")
        + table(["Reviewer", "kept", "relabelled", "excluded", "unsure", "first (UTC)", "last (UTC)"], who,
                "Decisions in effect by reviewer", numbers=(1, 2, 3, 4))
        + element("h3", "Classes before and after")
        + class_table(story)
        + "".join(_strip(story, action, title, images) for action, title in
                  ((RELABEL, "Relabelled"), (EXCLUDE, "Excluded"), (KEEP, "Flagged, and kept")))
        + element("h3", "The decisions")
        + decision_table(story)
    )  # fmt: skip


def class_table(story: Story) -> str:
    """Training images of each class before and after the decisions."""
    changed = [row for row in story.changes.per_class if row["excluded"] or row["moved_out"] or row["moved_in"]]
    rows = [
        [name(row["name"]), *(f"{row[key]:,}" for key in ("before", "excluded", "moved_out", "moved_in", "after")),
         percent(row["lost"])]
        for row in changed
    ]  # fmt: skip
    head = ["Class", "before", "excluded", "relabelled away", "relabelled to it", "after", "lost"]
    untouched = len(story.changes.per_class) - len(changed)
    more = paragraph(f"{counted(untouched, 'class', 'classes')} unchanged.", "muted") if untouched else ""
    said = paragraph(
        "Counted are training images only. Lost is what is excluded or relabelled away, as a share of what was there "
        "before.", "muted",
    )  # fmt: skip
    return table(head, rows, "Training images of each class", numbers=range(1, 7)) + said + more if rows else more


def _strip(story: Story, action: str, title: str, images: Images) -> str:
    rows = story.decisions[story.decisions["action"] == action]
    if action == KEEP:
        rows = rows[rows.index.isin(story.flagged.index)]
    if rows.empty:
        return ""
    more = f", the last {STRIP} of them" if len(rows) > STRIP else ""
    return element("h3", text(f"{title}: {len(rows):,}{more}")) + decided_strip(rows.head(STRIP), images)


def decision_table(story: Story) -> str:
    """The latest decisions, one row each."""
    latest = story.decisions.head(MOST_DECISIONS)
    rows = [
        [name(sample), name(row["given_label"]), f"{badge(row['action'])}", text(_to(row)), name(row["reviewer"]),
         moment(row["decided_at"]), text(row["note"] or "")]
        for sample, row in zip(latest.index, plain_rows(latest), strict=True)
    ]  # fmt: skip
    left = len(story.decisions) - len(rows)
    more = paragraph(f"and {left:,} more in decisions.jsonl", "muted") if left > 0 else ""
    log = f"The log holds {counted(story.events, 'event')}, what was taken back included; an export carries it."
    head = ["Image", "labelled", "decision", "new label", "by", "when (UTC)", "note"]
    return table(head, rows, "Decisions in effect, newest first") + more + paragraph(log, "muted")


def _to(row: Mapping[str, Any]) -> str:
    return str(row["final_label"]) if row["action"] == RELABEL else ""


def moment(when: object) -> str:
    """A moment of the log to the minute, as HTML."""
    return element("time", text(str(when)[:16].replace("T", " ")))


def reproduce(story: Story) -> str:
    """The commands that lead here, and the digests that must agree."""
    run = story.run
    project, settings = shlex.quote(plain(story.name)), dict(run.get("settings", {}))
    new = f"gradsift new {project} --source {_argument(story.source)}"
    if story.labels:
        new += f" --labels {_argument(story.labels)}"
    if "seed" in settings:
        new += f" --seed {settings['seed']}"
    sift = f"gradsift sift {project} --budget {story.budget}"
    sift += "".join(f" --{key} {settings[key]}" for key in ("seed", "trees") if key in settings)
    sift += f" --epochs {run['epochs']}" if "epochs" in run else ""
    check = [f"gradsift verify {project}{_form(story)}"] if story.proof else []
    lines = [new, sift, *check, f"gradsift report {project} --to report.html"]
    known = [
        ("Digest of ids, labels, splits and images", run.get("manifest")),
        ("Digest of the trained weights", run.get("weights_sha256")),
    ]
    digests = facts([(term, f"<code>{text(value)}</code>") for term, value in known if value])
    said = (
        "On the same machine with the same versions the scores come out the same to the last bit; elsewhere the "
        "rankings agree closely. Options of a table's columns and held-out share are given again as at first."
    )
    return f"<pre><code>{text_lines(lines)}</code></pre>{paragraph(said, 'muted')}{digests}"


def _form(story: Story) -> str:
    """The options of the verification that is told; a table of decisions (`file:`) is named without its folder."""
    if story.proof is None:
        return ""
    told = story.proof.verification
    full = [f"--full --seeds {len(told.seeds)}", f"--network {_argument(told.network)}"] if told.form == FULL else []
    arms = [f"--arm {_argument(name)}" for name in told.arms if name != DECIDED]
    test = TRAINING if told.test.name == UNCHANGED else told.test.name
    alone = [] if any(each.control_of for each in told.outcomes) else ["--no-controls"]
    return "".join(f" {option}" for option in [*full, *arms, f"--test {_argument(test)}", *alone])


def _argument(spec: str) -> str:
    return shlex.quote(plain(homeless(spec)))


def text_lines(lines: Sequence[str]) -> str:
    """Lines of text, each made safe, one under the other."""
    return "\n".join(map(text, lines))


@cache
def asset(file: str) -> str:
    """A style or a script that lies beside this file."""
    return (resources.files("core.export") / file).read_text("utf-8")


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
