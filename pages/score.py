"""Score: what will it cost? Start a run, watch it, stop it, go on; it is a process of its own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.jobs import Asking, JobState
from core.preview import downloads, resolved_model, resolved_weights, settings_of
from core.project import Project
from core.review.present import caution, notes_of
from core.settings import DEVICES, EXPLAINED, SiftSettings
from core.terminal import duration
from pages.ui import cached, job_panel, notices, session

SWITCHES = {"maps", "augment", "reference"}
SHOWN = ("epochs", "image_size", "augment", "flip", "maps", "trees", "device", "seed")
UNDECIDED = "As the data says"
RANGES = {  # of SiftSettings; a browser counts no further than the seed's
    "epochs": (1, 10_000), "image_size": (8, 512), "trees": (1, 100_000), "seed": (0, 2**53 - 1), "models": (1, 100),
}  # fmt: skip
TEXTS = {  # what a field holds where nothing is set
    "backbone": "none; torchvision:resnet18@FILE, for example", "layer": "automatic", "transform": "automatic",
    "checkpoints": "none; one file per line", "grand": "none; last, or epochs such as 5 10",
}  # fmt: skip
LISTS = {"checkpoints", "grand"}


def page() -> None:
    """Draw the page."""
    project = session.need_project()
    now = cached.job(project)
    count = cached.image_count(project)
    title = f"{project.folder.name}: {count:,} images of {len(project.classes)} classes"
    st.subheader(notices.plain(title), anchor=False)
    if now.kind == session.VERIFY:
        if now.running:
            _checking(project)
            return
        now = JobState()  # that a check has ended says nothing of the scores
    else:
        job_panel.panel(project)
    if now.running:
        st.caption("The run is a process of its own: close this tab, or the app, and it goes on.")
        return
    done = project.sifted and now.phase in ("finished", "none")
    if done:
        run = cached.findings(project).run
        if warning := caution(run):
            notices.warning(warning)
        for note in notes_of(run):
            notices.info(note)
        _next()
    if project.config.model != "reference":
        st.caption(notices.plain(f"Model: {project.config.model}"))
    arguments = _settings(project)
    allowed = _allowed(project, arguments)
    if done and not arguments:
        st.caption("All is computed with these settings. Running again computes only what is missing.")
        if not session.read_only() and st.button("Run again", icon=":material/replay:"):
            job_panel.start_run(project, [*arguments, *allowed])
        return
    waiting = _cost(project, arguments)
    _start(project, now, [*arguments, *allowed], count, waiting)


def _checking(project: Project) -> None:
    notices.info("A check of the cleaning is running on this project. Scoring waits until it has ended.")
    job_panel.panel(project, compact=True)
    if st.button("Go to the check", icon=":material/verified:"):
        session.goto("verify")


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
        for name in (*SHOWN, *settings_of(project.config.model)):
            title, reason = EXPLAINED[name]
            control, why = st.columns([2, 3], vertical_alignment="center")
            with control:
                arguments += _setting(name, title, before)
            why.caption(notices.plain(reason))
    return arguments


def _setting(name: str, title: str, before: SiftSettings) -> list[str]:
    value = getattr(before, name)
    flag, key = f"--{name.replace('_', '-')}", f"s-{name}"
    if name in TEXTS:
        return _text(name, title, before, flag, key)
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


def _text(name: str, title: str, before: SiftSettings, flag: str, key: str) -> list[str]:
    """Draw a setting that is a text or a list of texts; files in it have to lie inside the roots."""
    value = getattr(before, name)
    listed = name in LISTS
    shown = ("\n" if name == "checkpoints" else " ").join(value) if listed else value or ""
    draw = st.text_area if name == "checkpoints" else st.text_input
    told = str(draw(title, value=shown, key=key, placeholder=TEXTS[name])).strip()
    if told == shown:
        return []
    if not told:
        return [flag, "auto"]
    roots = session.roots()
    if name == "backbone":
        return [flag, resolved_model(told, roots)]
    if name == "checkpoints":
        return [flag, *resolved_weights([line.strip() for line in told.splitlines() if line.strip()], roots)]
    return [flag, *told.replace(",", " ").split()] if listed else [flag, told]


def _allowed(project: Project, arguments: list[str]) -> list[str]:
    """Ask whether weights may be fetched, where a model names its library's own; this is never stored."""
    backbone = arguments[arguments.index("--backbone") + 1] if "--backbone" in arguments else None
    if not downloads(project.config.model, backbone or project.config.settings.backbone):
        return []
    asked = st.toggle("Fetch the weights over the network if they are not here", key="s-download")
    return ["--download"] if asked else []


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
