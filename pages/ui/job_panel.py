"""A run as the person sees it: stages, rate, time left, curves, and how it ended. It polls only while a run is on."""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st

from core.jobs import JobState, start, stop
from core.project import Project
from core.terminal import duration, standing
from pages.ui import cached, charts, notices, session

TITLES = {
    "thumbs": "Thumbnails", "pixels": "Read the images", "features": "Train and record", "neighbours": "Neighbours",
    "scores": "Scores", "map": "Maps", "training": "Training", "forest": "Isolation forest",
    "network": "Your model", "series": "Your checkpoints", "backbone": "Backbone", "grand": "All layers",
    "copies": "Copies", "retrain": "Retraining", "quick": "Checking", "groups": "Groups",
    "making thumbnails": "Thumbnails", "reading images": "Reading the images",
}  # fmt: skip
MARKS = {"done": ":material/check_circle:", "running": ":material/pending:", "waiting": ":material/circle:"}
POLL = 1.0  # seconds
MANY = 6  # trainings of a check that stand side by side; more are counted
NOTES = 5  # of a run, the latest


@dataclass(frozen=True)
class Words:
    """What a kind of job is called when it has ended: `done` without a time, `failed`, and what was kept."""

    done: str
    failed: str
    died: str


SCORING = Words("Scored", "The run failed", "The run ended without a word")
WORDS = {"verify": Words("Checked", "The check failed", "The check ended without a word")}  # of any other kind: SCORING


def panel(project: Project, until: str = "end", compact: bool = False, curves: bool = True) -> None:
    """Draw the run and follow it; the whole page runs again when it ends, or when the stage `until` has ended.

    Args:
        project: whose run.
        until: a stage whose result this page waits for, or "end".
        compact: one line and a bar instead of stages and curves.
        curves: draw loss and accuracy too; drawing them each second slows a run on a small machine.
    """
    polled = cached.job(project).running
    before = _reached(project, until)

    def follow() -> None:
        with notices.shown():
            now = cached.job(project)
            if now.running != polled or _reached(project, until) != before:
                st.rerun()  # only a full run turns polling on or off
            draw(project, now, compact, curves)

    st.fragment(follow, run_every=POLL if polled else None)()


def _reached(project: Project, until: str) -> object:
    return cached.run_stamp(project) if until != "end" else None


def draw(project: Project, now: JobState, compact: bool = False, curves: bool = True) -> None:
    """Draw one state of a run."""
    if now.phase == "none":
        return
    if now.running:
        _running(project, now, compact)
    else:
        ended(now)
    if not compact:
        for note in now.notes[-NOTES:]:
            st.caption(notices.plain(note))
        _stages(now)
        if curves and len(now.curve) > 1:
            st.plotly_chart(
                charts.training_figure(now.curve, session.dark()), key="curves", config={"displayModeBar": False}
            )


def ended(now: JobState) -> None:
    """Say how a run ended and what to do."""
    seconds = duration(max(now.ended_at - now.started_at, 0.0)) if now.ended_at and now.started_at else ""
    took, said = f" after {seconds}" if seconds else "", WORDS.get(now.kind, SCORING)
    if now.phase == "finished":
        done = f"{said.done} in {seconds}." if seconds else f"{said.done}."
        st.success(notices.plain(done), icon=":material/check_circle:")
    elif now.phase == "stopped":
        notices.info(f"Stopped{took}. What was computed is kept; start again to go on from there.")
    elif now.phase == "failed":
        notices.problem(f"{said.failed}: {now.message}")
    elif now.phase == "died":
        notices.problem(f"{said.died}. {now.message} What was computed is kept; start again to go on.")


def _running(project: Project, now: JobState, compact: bool) -> None:
    words, control = st.columns([5, 1], vertical_alignment="center")
    with words:
        st.progress(min(now.done / now.total, 1.0) if now.total else 0.0, text=notices.plain(spoken(now)))
    with control:
        halt = session.read_only() is None and st.button(
            "Stop", key=f"stop-{compact}", icon=":material/stop_circle:", disabled=now.phase == "stopping",
            width="stretch",
        )  # fmt: skip
        if halt:
            stop(project)
            session.rerun_fragment()
    if now.message:
        notices.warning(now.message)
    if not compact and now.device:
        st.caption(
            notices.plain(f"on {now.device}{f', {now.memory_mb:,} MB of memory so far' if now.memory_mb else ''}")
        )


def spoken(now: JobState) -> str:
    """Return a run's state as a person says it."""
    if now.phase == "starting":
        return "Starting: the first words come in some seconds"
    if now.phase == "stopping":
        return "Stopping at the end of this batch"
    title = TITLES.get(now.stage, now.stage.capitalize() or "Working")
    title = f"{title}:" if now.total else title
    return " · ".join(standing(title, now.done, now.total, now.unit, now.rate, now.seconds_left))


def _stages(now: JobState) -> None:
    if not now.stages:
        return
    if now.kind == session.VERIFY and len(now.stages) > MANY:
        st.markdown(notices.plain(counted(now)))
        return
    for column, (name, status, seconds) in zip(st.columns(len(now.stages)), now.stages, strict=True):
        took = f", {duration(seconds)}" if seconds else ""
        column.markdown(f"{MARKS.get(status, '')} {notices.plain(TITLES.get(name, name) + took)}")


def counted(now: JobState) -> str:
    """Return in words how many of many stages are done, and about how long the others take, if they take as long."""
    took = [seconds for _, status, seconds in now.stages if status == "done" and seconds]
    left = sum(status != "done" for _, status, _ in now.stages)
    done = f"{len(now.stages) - left} of {len(now.stages)} trainings done"
    running = next((seconds or 0.0 for _, status, seconds in now.stages if status == "running"), 0.0)
    if not now.running or not took or not left:
        return done
    return f"{done} · about {duration(max(left * sum(took) / len(took) - running, 1.0))} left in all"


def start_run(project: Project, arguments: list[str], command: str = "sift") -> None:
    """Start a run of a command and let the page follow it."""
    start(project, arguments, command)
    time.sleep(0.2)  # the first event is on its way
    st.rerun()
