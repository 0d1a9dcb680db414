"""Verify: did the cleaning help? The verdict of a check, what it rests on, and what it would take to check again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.catalogue import SCORE_INFO
from core.findings import Findings
from core.jobs import JobState
from core.preview import resolved_model
from core.project import Project
from core.review.flags import SUSPICION
from core.terminal import duration
from core.verify.arms import FACTOR, UPWEIGHT
from core.verify.compare import HELPS, HURTS
from core.verify.record import FORMS, FULL, QUICK, TRAINING, UNCHANGED, Verification
from core.verify.shown import (
    WHAT,
    Shown,
    arm_spec,
    arms_in,
    cost,
    drawn,
    first_of,
    group_title,
    held_out,
    pick,
    spoken,
    stale,
)
from pages.ui import cached, cards, charts, job_panel, notices, session

FORM_TITLES = {QUICK: "Quick: a new last layer, in seconds", FULL: "Full: retrain the whole network"}
AGAIN = {QUICK: "Check again, or retrain the whole network", FULL: "Check again"}
STORED = {QUICK: "Quick", FULL: "Retrained"}
ICONS = {HELPS: ":green[:material/check_circle:]", HURTS: ":red[:material/cancel:]"}
UNCLEAR_ICON = ":gray[:material/horizontal_rule:]"
PLAIN = {"displayModeBar": False}
WHAT_IT_IS = (
    "A check trains the same network on the data as given, with your decisions, and with as many images removed at "
    "random. It compares them on images that no decision touches."
)
COLUMNS: dict[str, Any] = {
    "arm": "Arm", "kept": "Kept", "removed": "Left out", "relabelled": "Relabelled", "weighted": "Counted more often",
    "accuracy": st.column_config.NumberColumn("Accuracy, %", format="%.1f"),
    "given": "Points against as given", "random": "Points against random", "worst_class": "Worst class, points",
    "log_loss": "Log-loss", "verdict": "Verdict",
}  # fmt: skip
VALUE_COLUMNS: dict[str, Any] = {
    "name": "Name", "images": "Training images", "test_images": "Test images", "told": "Points", "changed": "Changed",
    "share": st.column_config.NumberColumn("Share of the data", format="percent"),
    "changed_share": st.column_config.NumberColumn("Share of the changed", format="percent"),
    "before": st.column_config.NumberColumn("Accuracy before", format="percent"),
    "after": st.column_config.NumberColumn("After", format="percent"), "pays": "Pays",
}  # fmt: skip


def page() -> None:
    """Draw the page."""
    project, findings = session.need_findings()
    now = cached.job(project)
    _watch(project, now)
    changed = int(cached.mark(project, session.reviewer(), bool(session.read_only()))["changed"])
    stored = cached.verifications(project)
    if not stored:
        notices.empty("Did the cleaning help?", WHAT_IT_IS)
        if not now.running:
            _check(project, findings, changed)
        return
    form, told = _form(stored), None
    with notices.shown():  # a damaged one leaves the way to a new one
        found = cached.verification(stored[form])
        told = _verdict(project, found, stored, form)
    if not now.running:
        with st.expander(AGAIN[form], icon=":material/replay:"):
            _check(project, findings, changed)
    if told is not None:
        _evidence(told)
        _moved(project, told)
        _losses(told)
        _small_print(found, told)


def _watch(project: Project, now: JobState) -> None:
    """Draw a check that is on, or that ended without a result; of any other run one line."""
    if now.running or (now.kind == session.VERIFY and now.phase != "finished"):
        job_panel.panel(project, compact=now.kind != session.VERIFY)
    if now.running and now.kind == session.VERIFY:
        st.caption("The check is a process of its own: close this tab, or the app, and it goes on.")


def _form(stored: dict[str, Path]) -> str:
    """The form that the address asks for, else that of the newest check."""
    asked = session.query("form")
    if asked and asked not in stored:
        notices.warning(f"No check of the form {asked!r} was made yet. The newest one is shown.")
    return asked if asked in stored else next(iter(stored))


def _verdict(project: Project, found: Verification, stored: dict[str, Path], form: str) -> Shown:
    words, control = st.columns([3, 2], vertical_alignment="center", gap="large")
    with control, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="bottom"):
        arm = _which(found, stored, form)
    told = cached.shown_of(stored[form], arm)
    with words:
        icon = ICONS.get(told.word, UNCLEAR_ICON)
        st.header(f"{icon} {notices.plain(told.headline)}", anchor=False)
    st.markdown(notices.plain(told.sentence))
    st.caption(notices.plain(told.test))
    now = cached.mark(project, session.reviewer(), bool(session.read_only()))
    if old := stale(found, now, cached.scores_key(project)):
        notices.warning(old)
    return told


def _which(found: Verification, stored: dict[str, Path], form: str) -> str:
    """Draw which stored check and which of its arms is looked at; both stand in the address bar."""
    if len(stored) > 1:
        forms = [name for name in FORMS if name in stored]
        chosen = st.segmented_control(
            "Form", forms, default=form, format_func=STORED.__getitem__, key=f"form-{form}", width="content"
        )
        if chosen and chosen != form:
            there = cached.verification(stored[chosen]).arms
            session.set_query(form=chosen, arm=session.query("arm") if session.query("arm") in there else None)
            st.rerun()
    arm, asked = pick(found, session.query("arm")), session.query("arm")
    if asked not in ("", arm):
        notices.warning(f"There is no arm {asked!r} in this check. Another one is shown.")
    if len(found.arms) > 1:
        titles = {name: found.outcome(name).title for name in found.arms}
        place = found.arms.index(arm)
        arm = str(
            st.selectbox("Arm", found.arms, index=place, format_func=titles.__getitem__, key=f"arm-{form}", width=280)
        )
        session.set_query(arm=arm)
    return arm


def _evidence(told: Shown) -> None:
    for column, (title, value, under) in zip(st.columns(len(told.figures)), told.figures, strict=True):
        column.metric(notices.plain(title), value, under or None, delta_color="off", delta_arrow="off")
    st.plotly_chart(charts.differences_figure(told.differences, session.dark()), key="differences", config=PLAIN)
    with st.expander("The same as a table, every arm"):
        st.dataframe(pd.DataFrame(told.arms), hide_index=True, column_config=COLUMNS)
    st.caption(notices.plain(told.rule))
    if told.curves:
        st.markdown("**Training, epoch by epoch.** The line is the mean of the seeds, the band their range.")
        st.plotly_chart(charts.learning_figure(told.curves, session.dark()), key="learning", config=PLAIN)


def _moved(project: Project, told: Shown) -> None:
    """Draw the test images whose prediction changed, both ways."""
    for column, title, count, rows, kind in zip(
        st.columns(2, gap="large"), ("Now right", "Now wrong"), (told.fixed_count, told.broken_count),
        (told.fixed, told.broken), ("gain", "loss"), strict=True,
    ):  # fmt: skip
        with column:
            st.markdown(f"**{title}: {count:,} test {'image' if count == 1 else 'images'}**")
            if rows:
                urls = cached.thumb_urls(project, [row["id"] for row in rows])
                cards.moved([{**row, "src": urls.get(row["id"])} for row in rows], kind)
            else:
                st.caption("No prediction changed so.")


def _losses(told: Shown) -> None:
    st.markdown("**Who gains, who pays**")
    if told.warnings:
        notices.warning(first_of(told.warnings))
    if not told.warnings:
        st.caption("No class and no group is told to lose accuracy, or to lose far more of its images than the rest.")
    names = list(told.groupings)
    titles = [notices.plain(group_title(each).capitalize()) for each in names]
    for tab, name in zip(st.tabs(titles), names, strict=True):
        rows = told.groupings[name]
        with tab:
            figure = charts.values_figure(drawn(rows), session.dark())
            st.plotly_chart(figure, key=f"values-{name}", config=PLAIN)
            st.caption("These intervals are corrected for the number of rows: together they hold in 95 of 100 cases.")
            with st.expander("The same as a table"):
                table = pd.DataFrame(rows)[list(VALUE_COLUMNS)]
                st.dataframe(table, hide_index=True, column_config=VALUE_COLUMNS)


def _small_print(found: Verification, told: Shown) -> None:
    st.markdown("**What this does not say**")
    st.markdown("\n".join(f"- {notices.plain(text)}" for text in told.limits))
    st.caption(notices.plain(f"{found.made_at[:16].replace('T', ' ')}, {found.tool}, {found.network}"))


def _check(project: Project, findings: Findings, changed: int) -> None:
    """Draw what a check would compare and what it takes, with the button that starts it."""
    if changed:
        st.markdown(
            f"Compared: the data as given, with the decisions on {changed:,} training images, as many at random."
        )
    else:
        st.markdown("No decision changes a training image yet. Review first, or see what a score alone would do.")
    arms = _arms(findings, changed)
    how, where, seeds, network = st.columns([2.2, 1.3, 0.8, 1.6])
    form = str(how.radio("How", FORMS, format_func=FORM_TITLES.__getitem__, key="check-form"))
    splits = held_out(cached.rows(project)["split"])
    arguments = [part for arm in arms for part in ("--arm", arm)]
    arguments += _tested_on(where, splits, form)
    if form == FULL:
        count = int(seeds.number_input("Seeds", 1, 20, 3, key="check-seeds"))
        arguments += ["--full", "--seeds", str(count)]
        arguments += _network(network)
    _start(project, arguments, form, _waits(bool(changed or arms), form, splits))


def _tested_on(place: Any, splits: list[str], form: str) -> list[str]:
    names = [*splits, *([TRAINING] if form == QUICK else [])]
    if not names:
        return []
    words = {TRAINING: UNCHANGED}
    chosen = str(place.selectbox("Test set", names, format_func=lambda name: words.get(name, name), key=f"test-{form}"))
    return [] if chosen == names[0] else ["--test", chosen]


def _network(place: Any) -> list[str]:
    told = str(place.text_input("Network", key="check-network", placeholder="the project's; train:resnet18")).strip()
    return ["--network", resolved_model(told, session.roots())] if told else []


def _waits(something: bool, form: str, splits: list[str]) -> str:
    """What a start waits for, in words; "" where it may begin."""
    if reason := session.read_only():
        return f"Not now: {reason}"
    if not something:
        return "Waits for a decision that changes a training image, or for an arm of your choice."
    if form == FULL and not splits:
        return "Retraining is compared on held-out images, and this project has none. The quick form works without."
    return ""


def _arms(findings: Findings, changed: int) -> list[str]:
    """Draw the arms that a person adds, kept in the address bar."""
    added, unknown = arms_in(session.query("also"))
    if unknown:
        notices.warning(f"The link names what is no arm and is left out: {', '.join(unknown)}")
    names = [SUSPICION, *(str(c).removeprefix("score_") for c in findings.samples if str(c).startswith("score_"))]
    titles = {SUSPICION: "Suspicion"} | {name: SCORE_INFO[name].title for name in names if name in SCORE_INFO}
    if added:
        kept = st.multiselect(
            "Also compare", added, default=added, format_func=lambda each: spoken(each, titles), key=f"also-{added}"
        )
        if kept != added:
            session.set_query(also=",".join(kept))
            st.rerun()
    with st.container(horizontal=True):
        if not changed and st.button("Review the suspects", type="primary", icon=":material/grid_view:"):
            session.goto("review")
        with st.popover("Add what a score alone would do", icon=":material/add:"):
            _add(added, names, titles)
    return added


def _add(added: list[str], names: list[str], titles: dict[str, str]) -> None:
    action = str(st.selectbox("What", list(WHAT), format_func=WHAT.__getitem__, key="arm-what"))
    most = str(st.text_input("How many: a share such as 5%, or a number", "5%", key="arm-amount"))
    named = titles.get
    score = str(st.selectbox("Most suspicious by", names, format_func=lambda each: named(each, each), key="arm-score"))
    factor = float(st.number_input("Times", 2.0, 100.0, FACTOR, key="arm-factor")) if action == UPWEIGHT else FACTOR
    per_class = st.checkbox("The same share of each class", key="arm-share")
    with notices.shown():
        if st.button("Add", key="arm-add"):
            spec = arm_spec(action, score, most, per_class, factor)
            session.set_query(also=",".join(dict.fromkeys([*added, spec])))
            st.rerun()


def _start(project: Project, arguments: list[str], form: str, waits: str) -> None:
    words = "Check in seconds"
    if form == FULL:
        words = _cost(project, arguments) if not waits else "Retrain"
    if st.button(words, type="primary", icon=":material/play_arrow:", disabled=bool(waits), key="check-start"):
        session.set_query(form=None, arm=None)  # the newest check is shown, and that will be this one
        job_panel.start_run(project, arguments, "verify")
    if waits:
        st.caption(notices.plain(waits))


def _cost(project: Project, arguments: list[str]) -> str:
    """Draw what retraining takes, measured in the background; return the words of the button."""
    told = ["Retrain"]

    def follow() -> None:
        answer = cached.cost_of_check(project, tuple(arguments)).poll()
        if answer is not None and polled:
            st.rerun()
        if answer is None:
            st.caption(":material/hourglass_top: Measuring what retraining takes on this machine …")
        elif isinstance(answer, str):
            notices.warning(f"What retraining takes could not be measured: {answer}")
        else:
            words, beside = cost(answer, int(arguments[arguments.index("--seeds") + 1]))
            about = f", about {duration(answer['seconds'])}" if answer["seconds"] else ""
            told[0] = f"{words}{about}"
            st.caption(notices.plain(beside))

    polled = cached.cost_of_check(project, tuple(arguments)).poll() is None
    st.fragment(follow, run_every=1.0 if polled else None)()
    return told[0]


session.open_page("Verify")
with notices.shown():
    page()
