"""Score: what will it cost? Start a run, watch it, stop it, go on; it is a process of its own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.jobs import Asking, JobState
from core.project import Project
from core.review.present import caution
from core.settings import DEVICES, EXPLAINED, SiftSettings
from core.terminal import duration
from pages.ui import cached, job_panel, notices, session

SWITCHES = {"maps", "augment"}
SHOWN = ("epochs", "image_size", "augment", "flip", "maps", "trees", "device", "seed")
UNDECIDED = "As the data says"
RANGES = {  # of SiftSettings; a browser counts no further than the seed's
    "epochs": (1, 10_000), "image_size": (8, 512), "trees": (1, 100_000), "seed": (0, 2**53 - 1),
}  # fmt: skip


def page() -> None:
    """Draw the page."""
    project = session.need_project()
    now = cached.job(project)
    count = cached.image_count(project)
    title = f"{project.folder.name}: {count:,} images of {len(project.classes)} classes"
    st.subheader(notices.plain(title), anchor=False)
    if now.running:
        job_panel.panel(project)
        st.caption("The run is a process of its own: close this tab, or the app, and it goes on.")
        return
    job_panel.panel(project)
    done = project.sifted and now.phase in ("finished", "none")
    if done:
        if warning := caution(cached.findings(project).run):
            notices.warning(warning)
        _next()
    arguments = _settings(project)
    if done and not arguments:
        st.caption("All is computed with these settings. Running again computes only what is missing.")
        if not session.read_only() and st.button("Run again", icon=":material/replay:"):
            job_panel.start_run(project, arguments)
        return
    waiting = _cost(project, arguments)
    _start(project, now, arguments, count, waiting)


def _next() -> None:
    review, atlas, _ = st.columns([1, 1, 3])
    if review.button("Review the suspects", type="primary", icon=":material/grid_view:", width="stretch"):
        session.goto("review")
    if atlas.button("See the map", icon=":material/scatter_plot:", width="stretch"):
        session.goto("map")


def _settings(project: Project) -> list[str]:
    """Draw the settings, each with the reason of its default; return the command line's arguments for the changes."""
    before = project.config.settings
    arguments: list[str] = []
    with st.expander("Settings, each with its reason", icon=":material/tune:"):
        for name in SHOWN:
            title, reason = EXPLAINED[name]
            control, why = st.columns([2, 3], vertical_alignment="center")
            with control:
                arguments += _setting(name, title, before)
            why.caption(notices.plain(reason))
    return arguments


def _setting(name: str, title: str, before: SiftSettings) -> list[str]:
    value = getattr(before, name)
    flag, key = f"--{name.replace('_', '-')}", f"s-{name}"
    if name == "device":
        chosen: Any = st.selectbox(title, DEVICES, index=DEVICES.index(value), key=key)
    elif name in SWITCHES:
        chosen = st.toggle(title, value=value or bool(name == "maps" and session.query("maps")), key=key)
    elif name == "flip":
        words = {UNDECIDED: None, "Mirror": True, "Do not mirror": False}
        spoken = st.selectbox(title, list(words), index=list(words.values()).index(value), key=key)
        chosen = words[str(spoken)]
    elif name == "seed" and value > RANGES["seed"][1]:
        st.text(f"{title}: {value}")
        return []
    else:
        chosen = st.number_input(title, *RANGES[name], value=value, step=1, key=key, placeholder="automatic")
    if chosen == value:
        return []
    if chosen is None:
        return [flag, "auto"] if name != "flip" else ["--flip-as-source"]
    return [flag if chosen else f"--no-{flag[2:]}"] if isinstance(chosen, bool) else [flag, str(chosen)]


def _cost(project: Project, arguments: list[str]) -> str:
    """Draw what the run will take, measured in the background; return the time in words, "" until it is known."""
    told = [""]

    def follow() -> None:
        asking = cached.cost(project, tuple(arguments))
        answer = asking.poll()
        if answer is not None and polled:
            st.rerun()
        told[0] = _draw_cost(asking, answer)

    polled = cached.cost(project, tuple(arguments)).poll() is None
    st.fragment(follow, run_every=1.0 if polled else None)()
    return told[0]


def _draw_cost(asking: Asking, answer: dict[str, Any] | str | None) -> str:
    if answer is None:
        st.caption(":material/hourglass_top: Measuring what the run will take, on your images and this machine …")
        return ""
    if isinstance(answer, str):
        notices.warning(f"What the run will take could not be measured: {answer}")
        return ""
    seconds = sum(answer["seconds"].values())
    if not seconds:
        st.caption("Everything is computed for these settings.")
        return ""
    time_, memory, disk, device = st.columns(4)
    time_.metric("Time", f"about {duration(seconds)}")
    memory.metric("Memory, at most", f"{answer['memory_mb']:,} MB")
    disk.metric("Disk", f"{answer['disk_mb']:,} MB")
    device.metric("Computes on", str(answer["device"]))
    return duration(seconds)


def _start(project: Project, now: JobState, arguments: list[str], count: int, cost: str) -> None:
    about = f" (about {cost})" if cost else ""
    verb = "Go on scoring" if now.phase in ("stopped", "failed", "died") else "Score"
    reason = session.read_only()
    if st.button(
        f"{verb} {count:,} images{about}", type="primary", icon=":material/play_arrow:", disabled=reason is not None
    ):
        job_panel.start_run(project, arguments)
    if reason:
        st.caption(notices.plain(f"Not now: {reason}"))


session.open_page("Score")
with notices.shown():
    page()
