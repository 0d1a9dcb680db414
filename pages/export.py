"""Export: what leaves? Every change in numbers and pictures, a confirmation, the files, the lines that load them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from core.errors import InputError
from core.export.formats import FORMATS
from core.export.manifest import ExportResult, export_manifest
from core.export.report import report_bytes
from core.project import Project
from core.review.changes import Changes, changes, load_code
from pages.ui import cached, cards, charts, large, notices, session

LARGEST = 2**31  # bytes of a file that is handed out


def page() -> None:
    """Draw the page."""
    project = session.need_project()
    review = cached.review(project, session.reviewer(), bool(session.read_only()))
    large.late("export-late", project, cached.findings(project) if project.sifted else None)
    decisions = review.current()
    told = changes(cached.manifest(project).rows, decisions)
    _numbers(told)
    for text in told.warnings:
        notices.warning(text)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _per_class(told)
    with right:
        _pictures(project, told, decisions)
    st.divider()
    st.markdown("**Export**")
    with notices.shown():  # a place that cannot be written leaves the rest of the page as it is
        _write(project, told)
    _report(project)


def _numbers(told: Changes) -> None:
    st.subheader(f"{told.after:,} of {told.before:,} images stay", anchor=False)
    if not (told.excluded or told.relabelled or told.kept or told.unsure):
        st.caption("No decision was made yet: the export is the data set as it came, with the evidence beside it.")
    facts = {
        "Excluded": told.excluded, "Relabelled": told.relabelled, "Kept": told.kept, "Unsure, stay in": told.unsure,
        "Not looked at": told.untouched,
    }  # fmt: skip
    for column, (title, value) in zip(st.columns(len(facts)), facts.items(), strict=True):
        column.metric(title, f"{value:,}")


def _per_class(told: Changes) -> None:
    st.markdown("**Training images of each class, before and after**")
    st.plotly_chart(
        charts.classes_figure(told.per_class, session.dark()), key="per-class", config={"displayModeBar": False}
    )
    with st.expander("The same as a table"):
        st.dataframe(
            pd.DataFrame(told.per_class), hide_index=True,
            column_config={"lost": st.column_config.NumberColumn("lost", format="percent")},
        )  # fmt: skip
    if told.moves:
        st.markdown("**Relabelled**")
        st.dataframe(pd.DataFrame(told.moves), hide_index=True)


def _pictures(project: Project, told: Changes, decisions: pd.DataFrame) -> None:
    for title, ids in (("Excluded", told.samples["excluded"]), ("Relabelled", told.samples["relabelled"])):
        if not ids:
            continue
        st.markdown(f"**{title}**")
        urls = cached.thumb_urls(project, list(ids))
        given = cached.rows(project)["given_label"]
        strip = [
            {
                "id": sample, "src": urls.get(sample), "given": str(given[sample]),
                "to": None if title == "Excluded" else str(decisions["final_label"][sample]),
            }
            for sample in ids
        ]  # fmt: skip
        cards.strip(strip)


def _stamp(project: Project) -> str:
    """Return the time as the name of a folder that is not there yet."""
    now = stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    number = 1
    while (project.exports / stamp).exists():
        number += 1
        stamp = f"{now}-{number}"
    return stamp


def _write(project: Project, told: Changes) -> None:
    if reason := session.read_only():
        st.caption(notices.plain(f"Not now: {reason}"))
        return
    what, where = st.columns([2, 3])
    formats = what.multiselect("Formats", [form.name for form in FORMATS], default=["csv"], key="formats")
    stamp = session.kept_or("export_stamp", lambda: _stamp(project))
    place = where.text_input("New folder", value=str(project.exports / stamp), key=f"place-{project.folder}-{stamp}")
    count = told.excluded + told.relabelled
    sure = not count or st.checkbox(
        f"Leave out {told.excluded:,} and relabel {told.relabelled:,}: each was decided by a person.",
        key=f"sure-{project.folder}-{stamp}-{told.excluded}-{told.relabelled}",
    )
    if st.button("Export", type="primary", icon=":material/ios_share:", disabled=not (sure and formats)):
        target = session.roots().resolve(place)
        with st.spinner("Writing"):
            session.keep("exported", (export_manifest(project, target, formats), tuple(formats)))
        session.keep("exported_of", str(project.folder))
        session.taken("export_stamp")
        st.rerun()
    if not sure:
        st.caption("Waits for your confirmation.")
    elif not formats:
        st.caption("Waits for a format.")
    if session.kept("exported_of") == str(project.folder):
        _written(*session.kept("exported"))


def _written(result: ExportResult, formats: tuple[str, ...]) -> None:
    counts = result.counts
    st.success(
        notices.plain(
            f"{counts['after']:,} of {counts['before']:,} samples are listed in {result.folder}; images are not copied"
        ),
        icon=":material/check_circle:",
    )
    for file in result.files:
        name, size, digest, get = st.columns([3, 1, 5, 1.4], vertical_alignment="center")
        name.text(file.name)
        size.text(f"{file.size / 1024:,.0f} kB")
        digest.code(file.sha256, language=None)
        path = result.folder / file.name
        if path.is_file():
            get.download_button(
                "Download", data=partial(_read, path), file_name=file.name, key=f"get-{file.sha256[:12]}-{file.name}",
                width="stretch", on_click="ignore",
            )  # fmt: skip
    st.markdown("**Load it**")
    code = load_code(result.folder, list(formats))
    for tab, text in zip(st.tabs(list(code)), code.values(), strict=True):
        tab.code(text, language="python")


def _read(path: Path) -> bytes:
    """Read a file for its download, when it is asked for; what lies there now must be inside the roots."""
    found = session.roots().read(path, limit=LARGEST)
    if isinstance(found, InputError):
        raise found
    return found


def _report(project: Project) -> None:
    st.divider()
    st.markdown("**A report to hand over**")
    st.caption("One HTML file with the images inside: the map, the worst of each class pair, what was decided by whom.")
    if not project.sifted:
        st.caption("Waits for scores.")
        return
    key = (str(project.folder), cached.run_stamp(project), cached.log_stamp(project))
    if session.kept("report_of") != key:
        session.taken("report", None)
    make, get, show = st.columns([1.4, 1.6, 4])
    if make.button("Make the report", icon=":material/description:", width="stretch"):
        with st.spinner("Writing"):
            made = report_bytes(project, cached.pictures(project).thumbs, large=cached.larger(project))
            session.keep("report", cached.set_aside(made))
            session.keep("report_of", key)
    place: Path | None = session.kept("report")
    if place is not None and place.is_file():
        get.download_button(
            f"Download ({place.stat().st_size / 2**20:.1f} MB)", data=place.read_bytes, mime="text/html",
            file_name=f"{project.folder.name}-report.html", on_click="ignore", width="stretch",
        )  # fmt: skip
    if show.button("Present it full screen", icon=":material/slideshow:"):
        session.goto("present", **{"from": "export"})


session.open_page("Export")
with notices.shown():
    page()
