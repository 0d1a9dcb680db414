"""How long `gradsift demo` takes to show something: `python tests/bench/first_run.py FOLDER [--python PYTHON]`.

Seconds from the start of the command, seen by a browser: to the first words on the screen, to the gallery, to the map.
`--python` names the interpreter of another environment, such as an empty one that only the wheel was installed in; an
empty XDG_CACHE_HOME makes every compile cache cold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from core.serve import LOCAL, free_port
from tests.browser.conftest import FLAGS
from tests.shots import WIDE, browser_path

LONGEST = 180_000  # ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    project, port = folder / "gradsift-demo", free_port(LOCAL, None)
    shutil.rmtree(project, ignore_errors=True)
    command = [options.python, "-P", "-m", "core.cli", "demo", "--no-browser", "--port", str(port)]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        page = browser.new_page(viewport=WIDE)  # type: ignore[arg-type]
        begin = time.perf_counter()
        app = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert app.stderr
            next(line for line in app.stderr if "runs at" in line)
            page.goto(f"http://{LOCAL}:{port}/review?project={project}")
            page.get_by_role("heading", name="No scores yet.").wait_for(timeout=LONGEST)
            print(f"first words: {time.perf_counter() - begin:.1f} s")
            page.locator(".card").first.wait_for(timeout=LONGEST)
            print(f"gallery: {time.perf_counter() - begin:.1f} s")
            page.get_by_role("link", name="Map", exact=True).click()
            page.locator(".st-key-map .js-plotly-plot").wait_for(timeout=LONGEST)
            print(f"map: {time.perf_counter() - begin:.1f} s")
        finally:
            browser.close()
            os.killpg(app.pid, signal.SIGINT)
            app.wait(30)


if __name__ == "__main__":
    main()
