"""An error becomes what happened and what to do; an empty page becomes a first step. Names are text, never markup."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.errors import GradSiftError

log = logging.getLogger("gradsift")


@contextmanager
def shown() -> Iterator[None]:
    """Run a page's body: a mistake that can be mended is said in its own words, any other failure without a trace."""
    try:
        yield
    except GradSiftError as error:
        problem(str(error))
    except Exception as error:  # Streamlit stops and reruns a page by what is no Exception
        log.exception("a page failed")
        problem(
            f"Something went wrong inside GradSift ({type(error).__name__}). Nothing was lost: decisions are on disk. "
            "Load the page again; the terminal that runs the app holds the details."
        )


def problem(text: str, icon: str = ":material/error:") -> None:
    """Show what went wrong, in words."""
    st.error(plain(text), icon=icon)


def warning(text: str) -> None:
    """Show what a person should know before they go on."""
    st.warning(plain(text), icon=":material/warning:")


def info(text: str) -> None:
    """Show something worth knowing."""
    st.info(plain(text), icon=":material/info:")


def empty(title: str, text: str) -> None:
    """Show that there is nothing here yet and why; the caller draws the button of the first step below it."""
    st.subheader(plain(title), anchor=False)
    st.markdown(plain(text))


_MARKUP = str.maketrans({sign: f"\\{sign}" for sign in r"\`*_{}[]()<>#+-.!|~$:&^="})
# What Streamlit reads out of text in which every sign is escaped: icons, arrows, dashes, addresses. An invisible sign
# that joins words, put between, keeps it from that where a code span cannot.
_SEAM = re.compile(r"(?<=:)(?=material/|streamlit:|//)|(?<=[-<>~])(?=[-=>])|(?<=@)(?=\w)|(?<=www)(?=\.)", re.I)


def plain(text: str) -> str:
    """Return text so that Markdown shows it letter by letter.

    A word that Streamlit would turn into an icon, a dash or a link (`--root`, `a->b`, `http://x`) comes as code, so
    that it can be copied as it stands.
    """
    return " ".join(map(_word, text.split()))


def _word(word: str) -> str:
    if _SEAM.search(word) is None:
        return word.translate(_MARKUP)
    return _SEAM.sub("\u2060", word).translate(_MARKUP) if "`" in word else f"`{word}`"
