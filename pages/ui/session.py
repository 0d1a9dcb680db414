"""The only door to the session, the address bar and what the app was told.

A page begins with `open_page(title)`. What a person chose lives in the address bar (`query`, `set_query`), so that a
link opens the same view; what they decided lives in the project; a reviewer's name that is not the user's lives in a
cookie. The session itself holds nothing that may not be lost: the project of this tab, the order of a gallery, what was
exported last (`kept`, `keep`).
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import streamlit as st
from streamlit.errors import StreamlitAPIException

from core import library
from core.findings import Findings
from core.project import Project
from core.roots import Roots
from core.serve import AppOptions
from pages.ui import cached, notices

HERE = Path(__file__).resolve().parents[2]
ICON = HERE / "assets" / "icon.png"
PAGES = {
    "load": ("Load", "folder_open"),
    "score": ("Score", "speed"),
    "map": ("Map", "scatter_plot"),
    "review": ("Review", "grid_view"),
    "verify": ("Verify", "verified"),
    "export": ("Export", "ios_share"),
    "learn": ("Learn", "school"),
    "present": ("Present", "slideshow"),
}
VERIFY = "verify"  # the kind of a job that proves, and computes no scores
KEPT = ("project",)  # of the address bar, when a page is changed by the menu


def pages() -> list[Any]:
    """Return the pages of the menu, and the unnamed one that leads to the first."""
    named = [
        st.Page(HERE / "pages" / f"{name}.py", title=title, icon=f":material/{icon}:", url_path=name)
        for name, (title, icon) in PAGES.items()
    ]
    return [st.Page(_start, title="Start", url_path="start", default=True, visibility="hidden"), *named]


def _start() -> None:
    goto("load", **whole_query())


def route() -> None:
    """Run the page that the address asks for: all that `app.py` does."""
    st.session_state["routed"] = True
    st.set_page_config(page_title="GradSift", page_icon=str(ICON), layout="wide")  # or the menu's icon is fetched
    st.navigation(pages(), position="top").run()


def open_page(title: str) -> None:
    """Set up a page; on a cold link to it the menu is put right first."""
    st.set_page_config(page_title=f"{title} · GradSift", page_icon=str(ICON), layout="wide")
    if not st.session_state.get("routed"):  # Streamlit found the file in `pages/` and did not run `app.py`
        st.navigation(pages(), position="top")
        if not st.session_state.get("healed"):
            st.session_state["healed"] = True
            st.rerun()
    st.html(STYLE)
    _tell_browser()
    if reason := read_only():
        st.info(f"Read-only: {reason} Everything is shown, nothing can be changed.", icon=":material/lock:")


STYLE = """<style>
.stMainBlockContainer { padding-left: clamp(1rem, 4vw, 4rem); padding-right: clamp(1rem, 4vw, 4rem); }
.stMainBlockContainer { max-width: 1680px; }
:focus-visible { outline-offset: 2px; }
.stProgress * { transition: none !important; }  /* drawing each frame of it takes the processor from a run */
.gs-project { position: fixed; top: 18px; right: 60px; max-width: 30vw; z-index: 999991; font-size: .87rem; opacity: .8;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; pointer-events: none; }
@media (max-width: 1040px) { .gs-project { display: none; } }
</style>"""


def projects_folder() -> Path:
    """Return where new projects are made."""
    return options().projects or roots().folders[0]


def options() -> AppOptions:
    """Return what the app was told when it was started."""
    return cached.options()


def roots() -> Roots:
    """Return the folders that the app may read."""
    return cached.roots()


def read_only() -> str | None:
    """Return why nothing may be changed, or None."""
    return "the app was started with --read-only." if options().read_only else None


def kept(name: str, default: Any = None) -> Any:
    """Return what this tab noted under a name, or the value of a widget: nothing that may not be lost."""
    return st.session_state.get(name, default)


def kept_or(name: str, make: Callable[[], Any]) -> Any:
    """Return what this tab noted under a name, made now where there is nothing yet."""
    if name not in st.session_state:
        st.session_state[name] = make()
    return st.session_state[name]


def keep(name: str, value: Any) -> None:
    """Note something for this tab, or set a widget's value before it is drawn."""
    st.session_state[name] = value


def taken(name: str, default: Any = None) -> Any:
    """Return what this tab noted under a name, and forget it."""
    return st.session_state.pop(name, default)


def dark() -> bool:
    """Whether the person looks at the dark theme."""
    return st.context.theme.type == "dark"


def query(key: str, default: str = "") -> str:
    """Return one value of the address bar."""
    return str(st.query_params.get(key, default))


def whole_query() -> dict[str, str]:
    """Return the address bar's values."""
    return {str(key): str(value) for key, value in st.query_params.to_dict().items()}


def set_query(**values: object) -> None:
    """Change values of the address bar; None and "" take a value out. Nothing is sent where nothing changes."""
    for key, value in values.items():
        text = "" if value is None else str(value)
        if not text and key in st.query_params:
            del st.query_params[key]
        elif text and st.query_params.get(key) != text:
            st.query_params[key] = text


def replace_query(values: Mapping[str, object], keep: tuple[str, ...] = KEPT) -> None:
    """Make the address bar hold `values`, and what is kept of it."""
    gone = {key: None for key in st.query_params if key not in values and key not in keep}
    set_query(**gone, **values)


def goto(page: str, **values: object) -> None:
    """Open another page with these values in its address; the project stays."""
    kept = {"project": st.session_state.get("project", "")} | {
        k: "" if v is None else str(v) for k, v in values.items()
    }
    st.switch_page(HERE / "pages" / f"{page}.py", query_params={k: v for k, v in kept.items() if v})


def rerun_fragment() -> None:
    """Run the fragment again that was clicked in; the whole page where a click fell into a run of the page."""
    try:
        st.rerun(scope="fragment")
    except StreamlitAPIException:
        st.rerun()


def open_project(folder: Path) -> None:
    """Make `folder` the project of this tab."""
    st.session_state["project"] = str(folder)
    set_query(project=str(folder))


def project() -> Project | None:
    """Return the project that the address names, else the one of this tab, else the one the app was started with.

    Raises:
        GradSiftError: it lies outside the folders the app may read, or is damaged.
    """
    named = query("project") or st.session_state.get("project") or str(options().project or "")
    if not named:
        return None
    found = library.open_project(named, roots())
    open_project(found.folder)
    return found


DEMOS = {"pictograms": "demo, drawn pictures", "digits": "demo, real digits with planted errors"}


def _named(found: Project) -> None:
    """Say in the bar at the top which project this is, and that a demo is one."""
    demo = DEMOS.get(found.config.source_spec.partition(":")[0], "")
    told = f"{found.folder.name}{f' ({demo})' if demo else ''}"
    if not read_only():
        told += f" · deciding as {reviewer()}"
    st.html(f'<div class="gs-project" title="{escape(str(found.folder))}"><b>GradSift</b> {escape(told)}</div>')


def need_project() -> Project:
    """Return the project, or show that there is none and end the page."""
    found = project()
    if found is None:
        notices.empty("No project is open.", "Open one, or make one from your own images.")
        if st.button("Open a project", type="primary", icon=":material/folder_open:"):
            goto("load")
        st.stop()
    _named(found)
    return found


def need_findings() -> tuple[Project, Findings]:
    """Return the project and its findings, or show what is missing and end the page."""
    found = need_project()
    if not found.sifted:
        now, count = cached.job(found), cached.image_count(found)
        if now.running and now.kind != VERIFY:
            from pages.ui import cards, job_panel  # they import this file

            notices.empty("No scores yet.", f"The {count:,} images are being scored. This page opens by itself.")
            job_panel.panel(found, until="scores", curves=False)
            cards.some_of(found)
        else:
            if now.phase in ("failed", "died"):
                from pages.ui import job_panel

                job_panel.ended(now)
            notices.empty("No scores yet.", f"Score the {count:,} images first.")
            if st.button(f"Score {count:,} images", type="primary", icon=":material/speed:"):
                goto("score")
        st.stop()
    return found, cached.findings(found)


COOKIE = "gradsift-reviewer"


def reviewer() -> str:
    """Return the name under which decisions are recorded: the user's, unless this browser was given another.

    The name is never part of an address: a link must not make its reader decide as somebody else.
    """
    named = kept("reviewer_name")
    if named is None:
        named = unquote(str(st.context.cookies.get(COOKIE, "")))
    named = "".join(letter for letter in str(named) if letter.isprintable()).strip()[:80]
    if named:
        return named
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def name_reviewer(name: str) -> None:
    """Record decisions of this browser under another name, from now on; an empty one is the user's again."""
    keep("reviewer_name", name.strip())
    keep("reviewer_told", True)


def _tell_browser() -> None:
    """Let the browser remember the reviewer's name over a reload."""
    if taken("reviewer_told"):
        value = quote(str(kept("reviewer_name") or ""), safe="")
        st.html(
            f"<script>document.cookie = '{COOKIE}={value}; path=/; max-age=31536000; SameSite=Strict'</script>",
            unsafe_allow_javascript=True,
        )
