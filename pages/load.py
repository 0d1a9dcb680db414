"""Load: what have I got? Projects to open, the built-in demos, and a new project checked as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.data.sources import SOURCES
from core.errors import GradSiftError
from core.library import BUILT_IN, ProjectCard
from core.opening import free_folder
from core.preview import (
    MODEL_FIELDS,
    SOURCE_FIELDS,
    Preview,
    SourceField,
    downloads,
    model_kinds,
    model_of,
    resolved_files,
    spec_of,
)
from core.terminal import duration
from pages.ui import cached, cards, demos, notices, session

PER_CLASS = 6
CLASSES_SHOWN = 12


def page() -> None:
    """Draw the page."""
    found = cached.projects()
    opened = _opened()
    if not found:
        _first()
    else:
        _projects(found, opened)
        _demos()
    st.divider()
    _new()


def _opened() -> Path | None:
    try:
        now = session.project()
    except GradSiftError as error:
        notices.problem(str(error))
        return None
    return now.folder if now else None


def _first() -> None:
    """The very first screen: what this is, on drawn pictures, before anything was made."""
    st.subheader("Find the training images that hurt your model", anchor=False)
    st.markdown(
        "These pictures are drawn by a program. Some carry a wrong label, some are junk, some are rare. "
        "GradSift trains a small network on them, ranks the suspects, and you decide image by image."
    )
    cards.samples(cached.preview_of("pictograms", ()), cached.samples_of("pictograms", (), PER_CLASS), limit=10)
    _demos(primary=True)


def _demos(primary: bool = False) -> None:
    if session.read_only():
        return
    with st.container(horizontal=True):
        drawn = st.button(
            "Open the pictograms demo (drawn)", icon=":material/draw:", type="primary" if primary else "secondary"
        )
        real = st.button("Open the digits demo (real)", icon=":material/dialpad:")
    if drawn or real:
        demos.open_demo("pictograms" if drawn else "digits")


def _projects(found: list[ProjectCard], opened: Path | None) -> None:
    st.subheader("Projects", anchor=False)
    for row in range(0, min(len(found), 12), 3):
        for column, card in zip(st.columns(3), found[row : row + 3], strict=False):
            with column.container(border=True):
                _project(card, card.folder == opened)
    if len(found) > 12:
        st.caption(f"The 12 changed last of {len(found):,} are shown.")


def _project(card: ProjectCard, opened: bool) -> None:
    title, button = st.columns([3, 1.3], vertical_alignment="center")
    title.text(card.name + (" (open)" if opened else ""))
    if card.error:
        st.caption(notices.plain(card.error))
        return
    if button.button("Open", key=f"open-{card.folder}", width="stretch"):
        session.open_project(card.folder)
        session.goto("review" if card.sifted else "score")
    state = "being scored" if card.running else "scored" if card.sifted else "not scored yet"
    demo = ", demo" if card.demo else ""
    st.caption(
        notices.plain(f"{card.images:,} images, {card.classes} classes, {state}, {card.decided:,} decided{demo}")
    )
    st.caption(notices.plain(str(card.folder)))


def _new() -> None:
    st.subheader("New project from your own data", anchor=False)
    if reason := session.read_only():
        st.caption(notices.plain(f"Not now: {reason}"))
        return
    st.caption(notices.plain(f"Folders that may be read: {', '.join(str(f) for f in session.roots().folders)}"))
    kinds = {kind.name: kind for kind in SOURCES if kind.name not in BUILT_IN}
    left, right = st.columns([2, 3], gap="large")
    with left:
        kind = st.radio(
            "Source", list(kinds), key="n-kind", format_func=lambda name: kinds[name].title,
            captions=[each.meaning for each in kinds.values()],
        )  # fmt: skip
        spec, filled, missing = _fields(str(kind))
        model, lacking = _model()
        missing = missing or lacking
    with right:
        if missing:
            st.caption(f"Waits for: {missing}.")
            return
        try:
            found = cached.preview_of(spec, filled)
        except GradSiftError as error:
            notices.problem(str(error))
            return
        _checked(found, spec, filled, model)


def _model() -> tuple[str, str]:
    """Draw the choice of a model with just its fields; return its spec, and what is still missing."""
    kinds = model_kinds(code=session.options().allow_code)
    kind = str(st.selectbox("Model", list(kinds), format_func=lambda name: kinds[name][0], key="n-model"))
    st.caption(notices.plain(kinds[kind][1]))
    values = {field.key: _field(f"model-{kind}", field) for field in MODEL_FIELDS[kind]}
    missing = next((field.label for field in MODEL_FIELDS[kind] if field.required and not values[field.key]), "")
    if kind == "reference":
        st.caption("It needs no GPU. Every default stands, with its reason, on the next page.")
    if not session.options().allow_code:
        st.caption("A network from code of yours can be used where the app was started with `--allow-code`.")
    if missing:
        return "", missing.lower()
    try:
        model = model_of(kind, values, session.roots())
    except GradSiftError as error:
        notices.problem(str(error))
        return "", "a model that can be read"
    if downloads(model):
        st.caption("Its weights are fetched over the network when a run begins, once you allow it on the next page.")
    return model, ""


def _fields(kind: str) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """Draw the fields of a source; return its spec, what was filled in besides, and what is still missing."""
    filled: list[tuple[str, str]] = []
    fields = SOURCE_FIELDS.get(kind, ())
    needed = {field: _field(kind, field) for field in fields if field.required}
    missing = next((field.label.lower() for field, value in needed.items() if not value), "")
    rest = [field for field in fields if not field.required]
    if rest:
        with st.expander("Labels, columns and splits"):
            filled = [(field.key, value) for field in rest if (value := _field(kind, field))]
    return spec_of(kind, {field.key: value for field, value in needed.items()}), tuple(filled), missing


def _field(kind: str, field: SourceField) -> str:
    return st.text_input(field.label, key=f"n-{kind}-{field.key}", help=field.help).strip()


def _checked(found: Preview, spec: str, filled: tuple[tuple[str, str], ...], model: str) -> None:
    images, classes, problems = st.columns(3)
    images.metric("Images", f"{found.images:,}")
    classes.metric("Classes", f"{len(found.classes):,}")
    problems.metric("Set aside so far", f"{found.problems:,}")
    if found.problems:
        with st.expander("What was set aside, and why"):
            st.dataframe(pd.DataFrame(found.problem_rows), hide_index=True)
    cards.samples(found, cached.samples_of(spec, filled, PER_CLASS), limit=CLASSES_SHOWN)
    if len(found.classes) > CLASSES_SHOWN:
        st.caption(f"The first {CLASSES_SHOWN} of {len(found.classes):,} classes are shown.")
    told = tuple(resolved_files(dict(filled), session.roots()).items())
    if session.kept("making") is None:  # its timer must not fire while the page is left
        _cost(found.spec, told, model)
    _create(found, spec, told, model)


def _cost(spec: str, filled: tuple[tuple[str, str], ...], model: str) -> None:
    asking = cached.cost_of_source(spec, filled, model)
    polled = asking.poll() is None

    def follow() -> None:
        answer = asking.poll()
        if answer is not None and polled:
            st.rerun()
        if answer is None:
            st.caption(":material/hourglass_top: Measuring what a run will take, on some of these images …")
        elif isinstance(answer, str):
            notices.warning(f"What a run will take could not be measured: {answer}")
        else:
            seconds = duration(sum(answer["seconds"].values()))
            st.caption(
                notices.plain(
                    f"A run takes about {seconds} on {answer['device']}, {answer['memory_mb']:,} MB of memory and "
                    f"{answer['disk_mb']:,} MB of disk at most."
                )
            )

    st.fragment(follow, run_every=1.0 if polled else None)()


def _create(found: Preview, spec: str, filled: tuple[tuple[str, str], ...], model: str) -> None:
    default = free_folder(session.projects_folder(), spec)
    folder = st.text_input("Project folder (new)", value=str(default), key=f"n-folder-{spec}")
    making: Any = session.kept("making")
    if making is not None:
        _making(making)
        return
    if st.button("Use this data", type="primary", icon=":material/arrow_forward:"):
        target = session.roots().resolve(folder)
        told = ["new", str(target), "--source", found.spec, "--model", model, *cached.flags(filled), "--json"]
        session.keep("making", (cached.asked(tuple(told)), target))
        st.rerun()


def _making(making: tuple[Any, Path]) -> None:
    asking, target = making

    def follow() -> None:
        answer = asking.poll()
        if answer is None:
            st.caption(":material/hourglass_top: Reading and checking every image …")
            return
        session.taken("making")
        if isinstance(answer, str):
            session.keep("refused", answer)
        else:
            cached.projects.clear()
            session.open_project(target)
            session.keep("made", True)
        st.rerun()

    st.fragment(follow, run_every=0.5)()


session.open_page("Load")
with notices.shown():
    if session.taken("made", False):
        session.goto("score")
    if session.kept("refused"):
        notices.problem(session.taken("refused"))
    page()
