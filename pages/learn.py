"""Learn: what does it mean? The idea on points that can be dragged, then on one image of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from core import toys
from core.errors import GradSiftError
from core.findings import Findings
from core.lesson import suspects
from core.project import Project
from core.toys import KINDS, MEASURES, MOST, WIDTH, WIDTHS, Answer, Ask, Edit
from pages.ui import cached, notices, session, toy

WORLD, SEED, BY, TAKE = "line", 15, "push", 0  # of the seeds 0 to 19 the one nearest to their mean in every figure
TAKES = range(0, MOST + 1, 5)
TOY = ("world", "seed", "width", "by", "take", "moved")  # of the address
WIDTH_HELP = (
    "How many straight pieces the border may be made of (units of the hidden layer). With 2 the model cannot follow "
    "the moons, and its own mistakes hide the wrong labels."
)
INTRODUCTION = (
    "A model learns from examples, and some of them carry the wrong label. The model gives many of them away: it does "
    "not expect them, and they push it elsewhere than all the others. Try it on points, then see it on your images."
)
TWO_PARTS = (
    "How an image pushes is made of two parts, **what the network got wrong** and **what it saw**, multiplied. Beside "
    "the suspect stands an ordinary image of the same class, which hardly pushes."
)
LIMITS = (
    "A point that pushes hard may be rare or hard rather than wrong: that is why a person decides.",
    "Each measure names as many as it is asked for, also where every label is right. Flip the ringed points back and "
    "see.",
    "“What if it were not there” needs points that are known to be right. With the same noise in them it ranks worse "
    "than no measure.",
    "Finding wrong labels and getting a better model are two things. The table under the picture counts both; the page "
    "Verify does so for your images.",
)
SOURCES = (
    "The points follow the protocol of Chhabra et al. (2025, figure 1), whose own points are not public. In the code "
    "behind that figure the panel of influence on half-moons shows the accuracy after really leaving each point out, "
    "in steps of 0.01, and the panel of outliers is given second derivatives as well; the flips were placed by hand, "
    "in one run of a net with two units, of which one in ten dies in training. Influence here is that of Koh and Liang "
    "(2017), of the last layer; negative (orange) means that removal helps."
)
STYLE = """<style>
@media (max-width: 900px) {
  .st-key-learn-body > [data-testid="stLayoutWrapper"] > .stHorizontalBlock { flex-direction: column; }
  .st-key-learn-body > [data-testid="stLayoutWrapper"] > .stHorizontalBlock > .stColumn { width: 100%; flex: 1 1 auto; }
}
.gs-errors { border-collapse: collapse; font-size: .93rem; margin: 0; width: 100%; }
.gs-errors th { text-align: right; font-weight: 600; padding: 2px 0 2px 12px; }
.gs-errors th:first-child { text-align: left; font-weight: 400; padding-left: 0; }
.gs-errors td { text-align: right; padding: 2px 0 2px 12px; font-variant-numeric: tabular-nums; }
.gs-errors tr + tr { border-top: 1px solid var(--st-border-color, #8885); }
</style>"""


@dataclass(frozen=True)
class Chosen:
    """What the address asks for."""

    world: str
    seed: int
    width: int
    by: str
    take: int
    edits: tuple[Edit, ...]

    @property
    def owner(self) -> str:
        """Names the points: other ones forget what was done to these."""
        return f"{self.world}-{self.seed}"


def page() -> None:
    """Draw the page."""
    toys.warm()
    st.html(STYLE)
    if (found := session.project()) is not None:
        session.need_project()  # says its name in the bar
    st.subheader("The idea in five minutes", anchor=False)
    st.markdown(INTRODUCTION)
    _controls(_read())
    _play()
    st.divider()
    _own(found)
    st.divider()
    _limits()


# What is asked for: the address holds it.


def _read(quiet: bool = False) -> Chosen:
    """What the address says; a value that there is not is said, unless `quiet`, and the usual one stands in for it."""
    world, by = (
        _one_of(name, known, usual, quiet)
        for name, known, usual in (("world", tuple(KINDS), WORLD), ("by", tuple(MEASURES), BY))
    )
    width, seed, take = (
        int(_one_of(name, tuple(map(str, known)), str(usual), quiet))
        for name, known, usual in (("width", WIDTHS, WIDTH), ("seed", range(toys.SEEDS), SEED), ("take", TAKES, TAKE))
    )
    edits = tuple(edit for edit in toys.read(session.query("moved")) if 0 <= edit.row < KINDS[world].points)
    return Chosen(world, seed, width, by, take, edits)


def _one_of(name: str, known: Sequence[str], usual: str, quiet: bool) -> str:
    asked = session.query(name, usual)
    if asked in known:
        return asked
    if not quiet:
        notices.warning(f"The link asks for {name} {asked[:40]!r}, which there is not. Shown is {usual}.")
    return usual


def _write(name: str, usual: object) -> None:
    value = session.kept(f"l-{name}")
    session.set_query(**{name: None if value == usual else value})


def _write_world() -> None:
    _write("world", WORLD)
    session.set_query(seed=None, moved=None)


def _new_points(seed: int) -> None:
    session.set_query(seed=(seed + 1) % toys.SEEDS, moved=None)


def _controls(chosen: Chosen) -> None:
    with st.container(key="learn-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        session.keep("l-world", chosen.world)
        st.segmented_control(
            "Points", tuple(KINDS), key="l-world", required=True, on_change=_write_world,
            format_func=lambda name: KINDS[name].title,
        )  # fmt: skip
        if KINDS[chosen.world].hidden:
            session.keep("l-width", chosen.width)
            st.select_slider(
                "Pieces of the border", WIDTHS, key="l-width", on_change=_write, args=("width", WIDTH), width=230,
                help=WIDTH_HELP,
            )  # fmt: skip
        st.button("New points", icon=":material/casino:", on_click=_new_points, args=(chosen.seed,))
        if session.kept("l-rings") is None:
            session.keep("l-rings", True)
        st.toggle("Ring the wrong labels", key="l-rings")


# The pictures.


def _play() -> None:
    """The part that answers a drag; it asks again until the last measure is loaded."""
    waiting = not toys.ready()

    def part() -> None:
        with notices.shown():
            if waiting and toys.ready():
                st.rerun()
            _pictures()

    st.fragment(part, run_every=0.5 if waiting else None)()


def _pictures() -> None:
    chosen = _read(quiet=True)
    heard = toy.sent("toy", chosen.owner, KINDS[chosen.world].points)
    edits = chosen.edits if heard.edits is None else heard.edits
    if heard.edits is not None and not heard.live:
        session.set_query(moved=toys.written(edits))
    answer = toys.play(
        Ask(chosen.world, chosen.seed, chosen.width, edits, chosen.by, chosen.take, toys.ready(), heard.live)
    )
    rings, dark = bool(session.kept("l-rings", True)), session.dark()
    with st.container(key="learn-body"):
        left, right = st.columns([1.05, 1], gap="large")
        with right:  # first: the points carry the answer that lets a hand go on, and what follows them may be cut off
            toy.views("toy-views", answer, owner=chosen.owner, rings=rings, dark=dark)
            if claim := toys.claim(answer):
                st.caption(notices.plain(claim))
        with left:
            told = toys.sentences(answer)["points"]
            st.markdown("**Change the points**  \n" + notices.plain(told))
            toy.points("toy", answer, owner=chosen.owner, edits=edits, heard=heard, rings=rings, dark=dark, about=told)
            _away(chosen, answer, bool(edits))


def _away(chosen: Chosen, answer: Answer, changed: bool) -> None:
    """Take points away, and what comes of it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        session.keep("l-take", chosen.take)
        st.slider(
            "Take points away", 0, MOST, key="l-take", step=TAKES.step, on_change=_write, args=("take", TAKE), width=230
        )
        session.keep("l-by", chosen.by)
        st.selectbox(
            "Those with the most", tuple(MEASURES), key="l-by", on_change=_write, args=("by", BY), width=200,
            format_func=lambda name: MEASURES[name].most,
        )  # fmt: skip
        if changed:
            st.button("Put the points back", icon=":material/undo:", on_click=session.set_query, kwargs={"moved": None})
    _came_of_it(answer)


def _came_of_it(answer: Answer) -> None:
    trimmed = answer.trimmed
    if trimmed is None:
        st.caption("Nothing is taken away yet: move the slider, and the model learns again without those points.")
        return
    st.markdown(notices.plain(toys.trimmed_sentence(answer)))
    columns = {"before": answer.errors, "after": trimmed.errors, "as many at random": trimmed.random}
    known = {title: each for title, each in columns.items() if each is not None}
    heads = "".join(f"<th>{title}</th>" for title in known)
    wrong = "".join(f"<td>{each.wrong * 100:.1f} %</td>" for each in known.values())
    surprise = "".join(f"<td>{each.surprise:.3f}</td>" for each in known.values())
    st.html(
        f'<table class="gs-errors"><tr><th></th>{heads}</tr><tr><th>Fresh points it gets wrong</th>{wrong}</tr>'
        f"<tr><th>Its surprise at them, on average</th>{surprise}</tr></table>"
    )
    st.caption(notices.plain(f"{toys.fresh_points()} The dashed line is the border before."))


# The same on the project.


def _own(project: Project | None) -> None:
    st.subheader("The same on your images", anchor=False)
    if project is None:
        st.markdown("Open a project to see one of its images taken apart in the same way.")
        if st.button("Open a project", icon=":material/folder_open:"):
            session.goto("load")
        return
    if not project.sifted:
        st.markdown("This project has no scores yet. Once it has, one of its images is taken apart here.")
        if st.button("To the scores", icon=":material/speed:"):
            session.goto("score")
        return
    with notices.shown():
        _image(project, cached.findings(project))


def _image(project: Project, findings: Findings) -> None:
    """One image: chosen by the address, else the first of those that are worth a look."""
    reviewer = session.reviewer()
    decisions = cached.review(project, reviewer, bool(session.read_only())).current()
    known = suspects(findings, decisions)
    asked = session.query("id")
    if asked and asked not in findings.samples.index:
        notices.warning(f"The link asks for image {asked!r}, which this project does not have.")
        asked = ""
    if not asked and not known:
        st.markdown("No training image here has a suggested label that differs from its own, so there is none to show.")
        return
    sample = asked or known[0]
    try:
        told = cached.lesson_on(project, reviewer, sample)
    except GradSiftError as error:
        notices.info(str(error))
        return
    _choose(sample, known)
    looks = [look for look in (told.suspect, told.ordinary) if look]
    ids = [each for look in looks for each in (look.id, *(str(near["id"]) for near in look.near))]
    pictures = cached.thumb_urls(project, list(dict.fromkeys(ids)))
    toy.image("lesson", told, pictures, dark=session.dark())
    if st.button("Look at it in the review", icon=":material/grid_view:"):
        session.goto("review", id=sample)


def _choose(sample: str, known: Sequence[str]) -> None:
    place = known.index(sample) if sample in known else -1
    st.markdown(TWO_PARTS)
    if len(known) > 1 or place < 0:
        following = known[(place + 1) % len(known)] if known else None
        st.button(
            f"Another one ({place + 1} of {len(known)})" if place >= 0 else "Another one",
            icon=":material/skip_next:", on_click=session.set_query, kwargs={"id": following},
        )  # fmt: skip


# What it does not say.


def _limits() -> None:
    st.subheader("What this does not say", anchor=False)
    st.markdown("\n".join(f"- {each}" for each in LIMITS))
    with st.expander("What the papers call these"):
        rows = {each.title: each.term for each in MEASURES.values()} | {
            "What the network got wrong × what it saw": "the two factors of the last layer's gradient"
        }
        st.markdown("| here | there |\n|---|---|\n" + "\n".join(f"| {one} | {other} |" for one, other in rows.items()))
        st.markdown(SOURCES)


session.open_page("Learn")
with notices.shown():
    page()
