"""A browser, an app to point it at, and a page that fails its test where the console or the network complains.

The browser is the one on this machine, found by `GRADSIFT_CHROMIUM` or by its usual names; without one the tests here
skip, or fail where `GRADSIFT_REQUIRE_BROWSER=1`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
KNOWN = (r"_stcore/health", r"_stcore/host-config")  # two 404s on a deep link: Streamlit asks below the page first
HERE = ("127.0.0.1", "localhost", "")
PATIENCE = 15_000  # ms


class Server(str):
    """An app that runs: its URL, which can be stopped and started again on the same port."""

    __slots__ = ("command", "env", "log", "port", "process")
    process: subprocess.Popen[bytes] | None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.env, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The app did not start: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self}/_stcore/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """`serve(script, *args, env={})` starts a Streamlit script on a free port and returns its URL."""
    running: list[Server] = []

    def serve(script: Path, *args: str, env: dict[str, str] | None = None) -> Server:
        port = free_port()
        server = Server(f"http://127.0.0.1:{port}")
        server.port = port
        server.log = tmp_path_factory.mktemp("server") / "output.txt"
        server.env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})}
        options = {
            "server.port": port,
            "server.address": "127.0.0.1",
            "server.headless": "true",
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": "false",
            "client.toolbarMode": "minimal",
            "theme.font": "sans-serif",
        }
        told = [f"--{name}={value}" for name, value in options.items()]
        server.command = [sys.executable, "-m", "streamlit", "run", str(script), *told, "--", *args]
        running.append(server)
        server.start()
        return server

    yield serve
    for server in running:
        server.kill()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, one for all tests."""
    path = os.environ.get("GRADSIFT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if not path or sync_playwright is None:
        why = "no playwright: install the project's test extra" if path else f"no browser among {', '.join(NAMES)}"
        if os.environ.get("GRADSIFT_REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def tolerated() -> list[str]:
    """Patterns of console errors that a test expects; none by default."""
    return []


@pytest.fixture
def complaints() -> list[str]:
    """What went wrong on the pages of a test."""
    return []


@pytest.fixture
def new_page(chromium: Any, tolerated: list[str], complaints: list[str]) -> Iterator[Callable[..., Any]]:
    """`new_page()` opens a page in the test's one context, watched for console errors and foreign hosts."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)

    def open_page() -> Any:
        page = context.new_page()
        watch(page, complaints)
        return page

    yield open_page
    context.close()
    left = [one for one in complaints if not any(re.search(known, one) for known in (*KNOWN, *tolerated))]
    assert not left, left


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """A page of its own for a test."""
    return new_page()


def watch(page: Any, complaints: list[str]) -> None:
    """Note console errors, uncaught exceptions and requests to other hosts."""
    page.on("console", lambda m: m.type == "error" and complaints.append(f"console: {m.text} {m.location['url']}"))
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.on("request", lambda asked: _foreign(asked.url) and complaints.append(f"foreign: {asked.url}"))


def _foreign(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob") and (parts.hostname or "") not in HERE
