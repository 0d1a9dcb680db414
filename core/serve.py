"""`gradsift app`: the browser app as a process, and what it was told, handed over by environment variables.

    server = Server(AppOptions(roots=(Path("photos"),)))
    server.wait_until_up()
    server.wait()  # until Ctrl-C

`core` never imports the app: it starts Streamlit on `app.py`, which reads `AppOptions.from_environment()`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import core
from core.data.sources.base import ROOTS, folders_of
from core.errors import InputError, ProjectError
from core.progress import Progress

LOCAL = "127.0.0.1"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
FIRST_PORT = 8501
PORTS_TRIED = 50
STARTS_WITHIN = 60.0  # seconds
_READ_ONLY, _PROJECT, _PROJECTS = "GRADSIFT_READ_ONLY", "GRADSIFT_PROJECT", "GRADSIFT_PROJECTS"
_CODE = "GRADSIFT_ALLOW_CODE"  # read by `core.models.specs.Permissions` in the runs that the app starts


@dataclass(frozen=True)
class AppOptions:
    """What the app may read, whether it may write and run a person's code, which project it opens with, and where new
    ones are made.
    """

    roots: tuple[Path, ...] = ()
    read_only: bool = False
    project: Path | None = None
    projects: Path | None = None
    allow_code: bool = False

    def environment(self) -> dict[str, str]:
        """Return the options as environment variables."""
        return {
            ROOTS: json.dumps([str(root) for root in self.roots]),
            _PROJECTS: str(self.projects or ""),
            _READ_ONLY: "1" if self.read_only else "",
            _PROJECT: str(self.project or ""),
            _CODE: "1" if self.allow_code else "",
        }

    @classmethod
    def from_environment(cls, values: Mapping[str, str] = os.environ) -> AppOptions:
        """Read the options back; without any, the app may read the folder it was started in."""
        named = tuple(Path(text) for text in folders_of(values.get(ROOTS, "")))
        project, projects = values.get(_PROJECT, ""), values.get(_PROJECTS, "")
        return cls(
            named or (Path.cwd(),), bool(values.get(_READ_ONLY)), Path(project) if project else None,
            Path(projects) if projects else None, values.get(_CODE) == "1",
        )  # fmt: skip


def app_file() -> Path:
    """Return the app's router: beside `core` in a checkout, in a package of its own where GradSift is installed.

    Raises:
        ProjectError: it is in neither place.
    """
    beside = Path(core.__file__).resolve().parents[1]
    if (beside / "pyproject.toml").is_file() and (beside / "app.py").is_file():
        return beside / "app.py"
    installed = beside / "gradsift_app" / "app.py"
    if installed.is_file():
        return installed
    raise ProjectError(f"The app's file app.py is not in {beside}. Install gradsift again.")


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str, asked: int | None) -> int:
    """Return the port asked for, or the first free one from 8501 on.

    Raises:
        InputError: the port asked for is in use, none is free, or `host` is no address of this machine.
    """
    for port in [asked] if asked is not None else range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return port
        except OverflowError as error:
            raise InputError(f"The port {port} is outside 1 to 65535. Choose another.") from error
        except OSError as error:
            if asked is not None or error.errno not in _TAKEN:
                raise InputError(f"Cannot listen on {host} port {port} ({error}). Choose another --port.") from error
    raise InputError(f"No port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free. Choose one with --port.")


_TAKEN = {13, 48, 98}  # permission denied; address in use on macOS; on Linux


def command_line(host: str, port: int) -> list[str]:
    """Return how Streamlit is started: our `app.py`, this address only, no usage statistics, no trace on a screen.

    What keeps other web sites out is said here, not left to a file: a page of another origin may not talk to the app,
    also not by a name that it lets point to this machine.
    """
    flags = {
        "server.address": [host], "server.port": [str(port)], "server.headless": ["true"],
        "server.enableXsrfProtection": ["true"], "server.enableCORS": ["true"], "server.enableStaticServing": ["false"],
        "server.allowedHosts": [*dict.fromkeys([*LOCAL_NAMES, host])] if is_local(host) else [],
        "server.fileWatcherType": ["none"], "server.maxUploadSize": ["20"], "browser.gatherUsageStats": ["false"],
        "browser.serverAddress": [host], "client.showErrorDetails": ["none"], "client.showErrorLinks": ["false"],
        "client.toolbarMode": ["minimal"], "global.developmentMode": ["false"],
    }  # fmt: skip
    told = [part for name, values in flags.items() for value in values for part in (f"--{name}", value)]
    return [sys.executable, "-P", "-m", "streamlit", "run", str(app_file()), *told]


def address(host: str, port: int, page: str = "", **query: str) -> str:
    """Return the address of a page of the app."""
    name = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/{page}" + (f"?{urlencode(query)}" if query else "")


class Server:
    """The running app: a process of its own, ended with this one.

    Args:
        options: what it may do.
        host: the address to listen on.
        port: the port; None for the first free one.
    """

    def __init__(self, options: AppOptions, host: str = LOCAL, port: int | None = None) -> None:
        self.host, self.port = host, free_port(host, port)
        path = [str(Path(core.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        variables = {
            **os.environ, **options.environment(), "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        }  # fmt: skip
        # Streamlit reads `.streamlit/config.toml` of the folder it starts in: that is ours, not one that came with a
        # data set.
        self.process = subprocess.Popen(
            command_line(host, self.port), env=variables, cwd=app_file().parent, stdout=subprocess.DEVNULL
        )

    def url(self, page: str = "", **query: str) -> str:
        """Return the address of a page."""
        return address(self.host, self.port, page, **query)

    def wait_until_up(self) -> None:
        """Return once the app answers.

        Raises:
            ProjectError: it ended, or did not answer within a minute.
        """
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ProjectError(
                    f"The app ended at once (exit {self.process.returncode}); its reason stands above. "
                    "Install gradsift again if a package is missing."
                )
            try:
                with urllib.request.urlopen(self.url("_stcore/health"), timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        self.end()
        raise ProjectError(f"The app did not answer within {STARTS_WITHIN:.0f} s at {self.url()}. Try another --port.")

    def open_browser(self, page: str = "", **query: str) -> None:
        """Open the page in the person's browser, where there is one."""
        threading.Thread(target=webbrowser.open, args=(self.url(page, **query),), daemon=True).start()

    def wait(self) -> int:
        """Wait until the app ends; Ctrl-C and a request to terminate end it. Returns its exit status."""
        before = signal.signal(signal.SIGTERM, lambda *_: self.end())
        try:
            return self.process.wait()
        except KeyboardInterrupt:
            self.end()
            return 0
        finally:
            signal.signal(signal.SIGTERM, before)

    def end(self) -> None:
        """End the app; runs that it started go on."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def greet(server: Server, options: AppOptions, progress: Progress) -> None:
    """Say where the app is, what it may read and who can reach it."""
    progress.note(f"GradSift runs at {server.url()} (Ctrl-C ends it)")
    progress.note(f"It may read: {', '.join(str(root) for root in options.roots)}")
    if not is_local(server.host):
        progress.note("Anyone who can reach this machine can open it: there is no password.")
