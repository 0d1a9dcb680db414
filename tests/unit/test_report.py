"""The report and the slides: the figures told, every name as text, and a file that is written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core import cli
from core.errors import ExportError, ProjectError
from core.export.map_picture import CLASS_COLOURS, crosses, placed, raster
from core.export.markup import data_url, name, percent, plain, text
from core.export.proof import AGAIN, NOT_YET, OTHERS, curve, span, whisker
from core.export.report import report_bytes, report_html, reproduce, write_report
from core.export.slides import PARTS, UNMEASURED, headline, slides
from core.export.story import Story, homeless, tell
from core.project import Project
from core.review import gallery, points
from core.review.changes import changes
from core.review.decisions import Review
from core.review.detail import detail
from core.verify.compare import RULE
from core.verify.shown import SCOPE
from tests.helpers import ROOT, drawn, tree_digest
from tests.reported import BUDGET, CLASSES, FILE, IMG, LINK, NOTE, PLAIN, REVIEWER, reported_project, suspects, verify

PNG = drawn(0, 0)
NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
VOID = {"meta", "img", "br", "link", "input", "hr"}


def images(ids: list[str]) -> Mapping[str, bytes | None]:
    return dict.fromkeys(ids, PNG)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return reported_project(tmp_path_factory.mktemp("reported"), verified=True)


@pytest.fixture(scope="module")
def story(project: Project) -> Story:
    return tell(project, now=NOW)


@pytest.fixture(scope="module")
def page(story: Story) -> str:
    return report_html(story, images)


class Read(HTMLParser):
    """Every tag with its attributes, all text outside of script and style, and whether the tags close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.crossed: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_story_tells_the_known_figures(story: Story) -> None:
    assert (story.images, len(story.ranked), story.held_out) == (36, 33, 3)
    assert len(story.flagged) == 7  # 20 % of 33 is 6.6
    assert [(pair.given, pair.suggested, pair.count) for pair in story.pairs] == [(IMG, PLAIN, 4), (PLAIN, IMG, 2)]
    assert story.reviewed == (4, 2)
    counted = story.changes
    assert (counted.kept, counted.relabelled, counted.excluded, counted.unsure, counted.untouched) == (1, 1, 1, 1, 32)
    assert story.events == 4
    assert [(each.name, each.both, each.jaccard) for each in story.overlaps] == [
        ("oga_forest", 7, 1.0),
        ("oga_l1", 0, 0.0),
    ]
    assert story.planted is None


def test_pairs_of_equal_count_stand_in_the_order_of_suspicion(story: Story) -> None:
    ranked = list(story.ranked.index)
    for pair in story.pairs:
        assert [ranked.index(each) for each in pair.ids] == sorted(ranked.index(each) for each in pair.ids)
    assert list(story.cases) == [story.pairs[0].ids[0], story.pairs[1].ids[0]]


def test_classes_before_and_after(story: Story) -> None:
    table = {row["name"]: row for row in story.changes.per_class}
    assert set(table) == set(CLASSES)
    columns = ["before", "excluded", "moved_out", "moved_in", "after"]
    assert [table[IMG][column] for column in columns] == [11, 1, 1, 0, 9]  # one of twelve is held out
    assert [table[PLAIN][column] for column in columns] == [11, 0, 0, 1, 12]
    assert table[IMG]["lost"] == pytest.approx(2 / 11)
    assert table[PLAIN]["lost"] == 0
    assert story.losers() == {}


def test_a_class_that_loses_more_than_a_fifth_is_named(story: Story) -> None:
    ids, split = [str(i) for i in range(10)], ["train"] * 9 + ["val"]
    rows = pd.DataFrame({"sample_id": ids, "split": split, "given_label": ["a"] * 4 + ["b"] * 5 + ["a"]})
    gone = pd.DataFrame({"action": "exclude", "final_label": None}, index=["0", "4", "9"])
    told = replace(story, changes=changes(rows, gone))
    assert told.losers() == {"a": 0.25}  # the held-out one is not counted; of five a fifth is not more than a fifth
    assert len(told.losers()) == len(told.changes.warnings)
    assert "Classes that lose more than 20 % of their training images: a 25 %." in Read(report_html(told, images)).text


def test_the_figures_are_those_of_the_screens(project: Project, story: Story, page: str) -> None:
    findings, manifest, current = project.findings(), project.manifest(), Review(project).current()
    filters = gallery.Filters(budget=BUDGET)
    rows = gallery.gallery(findings.samples, current, filters)
    ids = points.flagged_ids(findings.samples, budget=BUDGET)
    assert list(story.flagged.index) == list(rows.index) == list(ids)
    pairs = [(each["given"], each["suggested"], each["count"]) for each in gallery.pairs(rows)]
    assert [(pair.given, pair.suggested, pair.count) for pair in story.pairs] == pairs
    for pair in story.pairs:
        chosen = replace(filters, given=pair.given, suggested=pair.suggested)
        assert list(pair.ids) == list(gallery.gallery(findings.samples, current, chosen).index)
    assert points.headline(findings.samples, ids).startswith(headline(story).removesuffix(" for a second look"))
    shared = points.overlap(findings.samples, ("suspicion", "oga_forest", "oga_l1"), BUDGET)
    assert [(each.name, each.both, each.jaccard) for each in story.overlaps] == [
        (each["b"], each["both"], each["jaccard"]) for each in shared["pairs"] if each["a"] == "suspicion"
    ]
    assert [each.flagged for each in story.overlaps] == [shared["sets"][each.name] for each in story.overlaps]
    assert story.changes == changes(manifest.rows, current)
    done = gallery.progress(findings.samples, current, filters)
    assert (done["flagged"], done["reviewed"], done["left"]) == (len(story.flagged), story.reviewed[0], 3)
    for sample, beside in story.cases.items():
        assert beside == detail(findings, manifest.rows, current, sample)["examples"]
    for each in story.maps:
        data = points.map_data(findings, current, each.space, "given", budget=BUDGET)
        assert each.codes.tolist() == data.value.tolist()
        assert each.flagged.tolist() == data.flagged.tolist()
        assert each.wrong.tolist() == [action in ("relabel", "exclude") for action in data.action]
        assert np.array_equal(each.xy, data.xy)
        assert data.note == each.note
        assert each.note in Read(page).text
    assert len(story.maps) == 2


def test_an_example_is_neither_flagged_nor_excluded(story: Story) -> None:
    assert set(story.examples) == set(CLASSES)
    for label, sample in story.examples.items():
        row = story.row(sample)
        assert row["given_label"] == label
        assert not row["flagged"]
        assert row["action"] == "undecided"


def test_known_truth_is_counted(tmp_path: Path) -> None:
    project = reported_project(tmp_path)
    rows = project.manifest().rows
    truth = rows["given_label"].astype(str).copy()
    wrong = suspects(project)[:2] + suspects(project)[-1:]
    truth[rows["sample_id"].isin(wrong)] = LINK
    rows.assign(true_label=truth).to_parquet(project.folder / "manifest.parquet", index=False)
    story = tell(project)
    hit = {"flagged": 2, "all": 3}
    if story.row(wrong[2])["given_label"] == LINK:
        hit["all"] = 2
    assert story.planted == (hit["all"], hit["flagged"])
    assert f"{hit['flagged']} of the 7 flagged labels are wrong" in report_html(story, images)


def test_nothing_of_a_name_becomes_markup(page: str) -> None:
    read = Read(page)
    assert not read.open
    assert not read.crossed
    assert {tag for tag, _ in read.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "h4", "p", "nav", "ol", "ul",
        "li", "a", "main", "section", "div", "dl", "dt", "dd", "figure", "figcaption", "img", "bdi", "span", "b", "svg",
        "rect", "path", "image", "circle", "table", "caption", "thead", "tbody", "tr", "th", "td", "code", "pre",
        "footer", "script", "time", "text",
    }  # fmt: skip
    for tag, attributes in read.tags:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], (tag, attributes)
        for key in ("src", "href"):
            value = attributes.get(key, "#")
            assert re.match(r"#[a-z]+$|data:image/(png|webp|jpeg);base64,[A-Za-z0-9+/=]+$|#$", value), (tag, value[:80])
    assert sum(tag == "script" for tag, _ in read.tags) == 1


@pytest.mark.parametrize("hostile", [IMG, LINK, FILE, REVIEWER, NOTE, "<b>reason</b>", "of <i>this</i>"])
def test_hostile_names_are_shown_as_they_are(page: str, hostile: str) -> None:
    assert hostile in Read(page).text


@pytest.mark.parametrize("hostile", [IMG, FILE])
def test_hostile_names_are_alternative_text_as_they_are(page: str, hostile: str) -> None:
    assert any(hostile in attributes.get("alt", "") for _, attributes in Read(page).tags)


def test_every_image_has_a_text(page: str) -> None:
    tags = Read(page).tags
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    shown = [attributes for tag, attributes in tags if tag == "svg" and "aria-hidden" not in attributes]
    assert shown
    assert all(each["role"] == "img" and each["aria-label"] for each in shown)


def test_headings_do_not_skip_a_level(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Read(page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(page: str) -> None:
    policy = next(a["content"] for _, a in Read(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    for tag in ("style", "script"):
        inner = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        assert len(inner) == 1
        digest = base64.b64encode(hashlib.sha256(inner[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_nothing_is_fetched(page: str) -> None:
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_the_report_says_what_the_slides_say(story: Story, page: str) -> None:
    deck = slides(story, images)
    assert [slide.part for slide in deck] == sorted((s.part for s in deck), key=list(PARTS).index)
    assert {slide.part for slide in deck} == set(PARTS)
    for slide in deck:
        assert slide.html in page
        assert text(slide.title) in page


def test_what_a_reader_must_be_told_is_told(page: str) -> None:
    told = Read(page).text
    for sentence in (
        "7 of 33 training images are flagged for a second look",
        "A budget of 20% always flags 7 images, also where every label is right",
        "Hard is not wrong.",
        "4 of 7 flagged images were decided on by a person; 2 of them (50 %) were relabelled or excluded.",
        "Report by GradSift",
        "04 March 2026, 05:06 UTC",
        "weighted_aum",
        "All 33 training points drawn. 3 held-out images are not drawn.",
        "Counted are all 36 images, training and held out.",
        "Counted are training images only.",
        "Decide on the 3 flagged images that nobody has looked at.",
        "The log holds 4 events",
        "gradsift sift project --budget 20%",
    ):
        assert sentence in told, sentence


def test_a_verification_is_told(story: Story, page: str) -> None:
    told = Read(page).text
    proof = story.proof
    assert proof is not None
    assert proof.shown.word in proof.shown.headline
    for sentence in (
        f"{proof.shown.headline} ",
        proof.shown.sentence,
        f"The rule. {RULE}",
        "The whole network was trained again (<img src=x onerror=alert(1)>), 3 seeds for each arm",
        f"{proof.shown.fixed_count} test images became right, {proof.shown.broken_count} became wrong",
        f"{IMG} gives up 6 of its 11 training images (55 %), 86 % of all that change, and is 33 % of the data",
        "Who pays for it",
        SCOPE,
        OTHERS,
        "gradsift verify project --full --seeds 3 --network",
    ):
        assert sentence in told, sentence
    assert UNMEASURED not in told
    for row in proof.shown.differences:
        assert told.count(row["told"]) >= 2, row  # in the picture and in the table
    for measure in proof.shown.curves:
        assert f"{measure} over 4 epochs: as given" in page


def test_changed_test_images_are_shown_both_ways(story: Story) -> None:
    assert story.proof is not None
    shown = story.proof.shown
    changed = next(slide for slide in slides(story, images) if "became right" in slide.title)
    alts = [attributes["alt"] for tag, attributes in Read(changed.html).tags if tag == "img"]
    rows = [*shown.fixed[:6], *shown.broken[:6]]
    assert min(len(shown.fixed), len(shown.broken)) > 0
    assert alts == [
        f"{row['id']}, labelled {row['label']}, predicted {row['before']} before and {row['after']} after"
        for row in rows
    ]  # fmt: skip


def test_without_a_verification_nothing_is_claimed(tmp_path: Path) -> None:
    story = tell(reported_project(tmp_path, maps=False), now=NOW)
    told = Read(report_html(story, images)).text
    assert story.proof is None
    assert UNMEASURED in told
    assert "Did it help?" not in told
    assert NOT_YET in told
    assert [line for line in reproduce(story).splitlines() if "verify" in line] == []


def test_a_verification_of_earlier_decisions_says_so(tmp_path: Path) -> None:
    project = reported_project(tmp_path, maps=False)
    verify(project, now=False)
    said = "Decisions have changed since: they change 2 training images now, 40 then. Check again."
    told = Read(report_html(tell(project, now=NOW), images)).text
    assert told.count(said) == 2  # beside the verdict and among the limits
    assert "(earlier decisions)" in told
    assert AGAIN in told


def test_which_verification_is_told(tmp_path: Path) -> None:
    """The full form before the quick one, unless only the quick one is of the present decisions; then the newest."""
    project = reported_project(tmp_path, maps=False)

    def told() -> tuple[str, str]:
        proof = tell(project, now=NOW).proof
        assert proof is not None
        return proof.verification.form, proof.verification.made_at[8:10]

    verify(project, "quick", made_at="2026-03-01T12:00:00", now=False)
    assert told() == ("quick", "01")
    verify(project, "full", made_at="2026-02-20T12:00:00", now=False)
    assert told() == ("full", "20")
    verify(project, "quick", made_at="2026-03-02T12:00:00")
    assert told() == ("quick", "02")
    assert "gradsift verify --full" in Read(report_html(tell(project, now=NOW), images)).text
    verify(project, "full", made_at="2026-02-21T12:00:00")
    assert told() == ("full", "21")


def test_a_damaged_verification_is_named(tmp_path: Path) -> None:
    project = reported_project(tmp_path, maps=False, verified=True)
    next(project.verify.glob("*/outcomes.npz")).write_bytes(b"")
    with pytest.raises(ProjectError, match="Delete that folder and verify again"):
        tell(project)


def test_whiskers_lie_where_their_figures_do() -> None:
    row = {"value": 2.0, "low": -1.0, "high": 5.0}
    drawn_ = whisker(row, -5.0, 5.0)
    assert 'd="M50.00 0V10"' in drawn_
    assert 'd="M40.00 5H100.00"' in drawn_
    assert 'd="M70.00 1.5V8.5"' in drawn_
    assert "whisker even" in drawn_
    assert "whisker better" in whisker(row | {"low": 1.0}, -5.0, 5.0)
    assert "whisker worse" in whisker(row | {"low": 1.0}, -5.0, 5.0, better_left=True)
    assert "whisker worse" in whisker({"value": -2.0, "low": -3.0, "high": -1.0}, -5.0, 5.0)
    low, high = span([1.0, 2.0])
    assert low < 0 < 2 < high
    assert span([]) == (-1.0, 1.0)


def test_curves_lie_within_their_picture() -> None:
    lines = [
        {"name": "as given", "random": False, "mean": [1.0, 2.0, 3.0], "low": [1.0, 2.0, 2.0], "high": [1.0, 2.0, 4.0]},
        {"name": "at random", "random": True, "mean": [1.0] * 3, "low": [1.0] * 3, "high": [1.0] * 3},
    ]
    drawn_ = curve("Accuracy", lines)
    assert 'class="given" d="M44.0 130.0L170.0 88.0L296.0 46.0"' in drawn_
    assert 'class="random"' in drawn_
    assert "Accuracy over 3 epochs: as given 3, at random 1" in drawn_
    for pair in re.findall(r"([\d.]+) ([\d.]+)", " ".join(re.findall(r' d="([^"]*)"', drawn_)).replace("L", " ")):
        assert 0 <= float(pair[0]) <= 300
        assert 0 <= float(pair[1]) <= 170


def test_a_note_that_waits_for_a_decision_is_not_invented(tmp_path: Path) -> None:
    story = tell(reported_project(tmp_path, maps=False, decided=False), now=NOW)
    told = Read(report_html(story, images)).text
    assert "Nothing has been decided yet" in told
    assert "This run was told to draw no maps." in told
    assert "relabelled or excluded (" not in told
    assert "Reviewer" not in told


def test_without_images_the_report_says_so(story: Story) -> None:
    told = Read(report_html(story, lambda ids: dict.fromkeys(ids))).text
    assert "image not available" in told


def test_a_project_without_scores_is_refused(tmp_path: Path) -> None:
    project = reported_project(tmp_path)
    (project.folder / "stages" / "latest.json").unlink()
    with pytest.raises(ProjectError, match="no scores yet"):
        tell(project)


def test_long_lists_are_cut_and_say_so(story: Story, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.export.report.MOST_DECISIONS", 1)
    assert "and 3 more in decisions.jsonl" in Read(report_html(story, images)).text
    deck = slides(story, images, top=1)
    assert "and 3 more" in next(slide.html for slide in deck if slide.part == "pairs")


def test_decisions_on_images_that_are_gone_are_passed_over(tmp_path: Path) -> None:
    project = reported_project(tmp_path)
    rows = project.manifest().rows
    gone = suspects(project)[0]
    rows[rows["sample_id"] != gone].to_parquet(project.folder / "manifest.parquet", index=False)
    assert gone not in tell(project).decisions.index


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\x00b\x1b[31mc", "a�b�[31mc"),
        ("one\n two\t", "one two"),
        ("half \ud800 a character", "half ? a character"),
        ("photo\u202egpj.exe", "photo�gpj.exe"),
    ],
)
def test_text_is_one_plain_line(value: str, said: str) -> None:
    assert plain(value) == said
    text(value).encode("utf-8")


def test_a_name_is_escaped_also_for_attributes() -> None:
    assert text("""<a b="c" d='e'>&""") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    assert name("<") == "<bdi>&lt;</bdi>"


@pytest.mark.parametrize("data", [None, b"", b"<svg onload=alert(1)>", b"<html>", b"RIFF1234WAVE", b"\x89PNG"])
def test_only_raster_images_become_data_urls(data: bytes | None) -> None:
    assert data_url(data) is None


def test_a_png_becomes_a_data_url() -> None:
    assert data_url(PNG) == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0 %"), (0.001, "below 1 %"), (0.5, "50 %"), (0.999, "over 99 %"), (1.0, "100 %")]
)
def test_percent(share: float, said: str) -> None:
    assert percent(share) == said


def test_the_home_folder_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert homeless("folder:/home/ann/photos") == "folder:~/photos"
    assert homeless("folder:/data/home") == "folder:/data/home"


def test_points_lie_where_they_belong() -> None:
    xy = np.array([[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]])
    assert placed(xy).tolist() == [[14.0, 626.0], [986.0, 14.0], [500.0, 320.0]]
    assert placed(np.empty((0, 2))).shape == (0, 2)
    assert crosses(np.array([[10.0, 20.0]]), 3.0) == "M7.0 17.0l6 6m0-6l-6 6"


def test_the_picture_shows_a_point_in_its_colour() -> None:
    image = Image.open(io.BytesIO(raster(np.array([[500.0, 320.0]]), np.array([2]), 4.0))).convert("RGBA")
    x, y = image.width // 2, image.height // 2
    red = image.getpixel((x, y))
    assert isinstance(red, tuple)
    assert "#{:02x}{:02x}{:02x}".format(*red[:3]) == CLASS_COLOURS[2]
    clear = image.getpixel((0, 0))
    assert isinstance(clear, tuple)
    assert clear[3] == 0


def test_a_map_of_many_points_stays_small() -> None:
    rng = np.random.default_rng(0)
    assert len(raster(placed(rng.normal(size=(20_000, 2))), rng.integers(0, 10, 20_000), 1.0)) < 200_000


def test_the_file_is_what_was_made_and_the_project_is_only_read(project: Project, tmp_path: Path) -> None:
    before = tree_digest(project.folder)
    path, size = write_report(project, tmp_path / "r.html", images)
    assert path.stat().st_size == size
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]
    assert tree_digest(project.folder) == before
    assert abs(len(report_bytes(project, images)) - size) < 10


@pytest.mark.parametrize("name_", ["r.txt", "project.toml", "review.sqlite"])
def test_another_ending_is_refused(project: Project, tmp_path: Path, name_: str) -> None:
    with pytest.raises(ExportError, match=r"does not end in \.html"):
        write_report(project, tmp_path / name_, images, force=True)


def test_a_file_that_is_there_is_kept_unless_told(project: Project, tmp_path: Path) -> None:
    there = tmp_path / "mine.html"
    there.write_text("mine")
    with pytest.raises(ExportError, match="exists"):
        write_report(project, there, images)
    assert there.read_text() == "mine"
    write_report(project, there, images, force=True)
    assert there.read_text("utf-8") != "mine"


def test_a_link_is_replaced_and_not_followed(project: Project, tmp_path: Path) -> None:
    aim, link = tmp_path / "aim.txt", tmp_path / "link.html"
    aim.write_text("mine")
    link.symlink_to(aim)
    with pytest.raises(ExportError, match="exists"):
        write_report(project, link, images)
    write_report(project, link, images, force=True)
    assert aim.read_text() == "mine"
    assert not link.is_symlink()


def test_the_source_is_never_written_into(project: Project) -> None:
    source = Path(project.config.source_spec.partition(":")[2])
    for path in (source / "r.html", source / PLAIN / "r.html", source / "x" / ".." / "r.html"):
        with pytest.raises(ExportError, match="only read"):
            write_report(project, path, images, force=True)


def test_a_missing_folder_is_named(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        write_report(project, tmp_path / "no" / "r.html", images)


def test_a_disk_that_refuses_leaves_nothing(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.export.report.os.fsync", full)
    with pytest.raises(ExportError, match="nothing was left"):
        write_report(project, tmp_path / "r.html", images)
    assert list(tmp_path.iterdir()) == []


def test_the_command(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "r.html"
    assert cli.main(["report", str(project.folder), "--to", str(to), "--top", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(to), "bytes": to.stat().st_size}
    page = to.read_text("utf-8")
    assert "image not available" not in page
    assert "data:image/webp" in page
    assert cli.main(["report", str(project.folder), "--to", str(to)]) == 1
    assert "--force" in capsys.readouterr().err
    assert cli.main(["report", str(project.folder), "--to", str(to), "--force"]) == 0


def test_an_image_that_is_not_the_one_that_was_scored_is_not_shown(tmp_path: Path) -> None:
    project = reported_project(tmp_path)
    for path in (tmp_path / "images").rglob("*.png"):
        path.write_bytes(drawn(0, 999))
    assert cli.main(["report", str(project.folder), "--to", str(tmp_path / "r.html")]) == 0
    assert "image not available" in (tmp_path / "r.html").read_text("utf-8")
    assert "data:image/webp" not in (tmp_path / "r.html").read_text("utf-8")


def test_a_report_is_made_without_torch() -> None:
    code = "import json, sys, core.export.report; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "umap", "numba", "streamlit", "plotly"} & set(json.loads(done.stdout))


def test_undone_decisions_are_not_told(tmp_path: Path) -> None:
    project = reported_project(tmp_path)
    Review(project, reviewer="bo").undo()
    assert len(tell(project).decisions) == 3
