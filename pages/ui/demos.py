"""The built-in demos, one click away: made beside the person's projects, scored in the background."""

from __future__ import annotations

import streamlit as st

from core import jobs, opening
from core.progress import Progress
from pages.ui import cached, session


def open_demo(data: str) -> None:
    """Make the demo project of a built-in source where there is none, start its run, and open it."""
    folder = session.projects_folder() / (f"gradsift-demo-{data}" if data != "pictograms" else "gradsift-demo")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with st.spinner("Drawing the pictures" if data == "pictograms" else "Reading the digits"):
        project = opening.demo_project(folder, data, Progress())
    if not project.sifted and not jobs.state(project).running:
        jobs.start(project, [])
    cached.projects.clear()
    session.open_project(project.folder)
    session.goto("review")
