import json
import socket
import sys
from pathlib import Path

import pytest

from core import opening, serve
from core.errors import InputError, ProjectError
from core.progress import Progress
from core.serve import AppOptions
from tests.helpers import drawn_folder, unchecked


def test_options_survive_the_way_through_the_environment(tmp_path: Path) -> None:
    told = AppOptions((tmp_path, tmp_path / "b c"), read_only=True, project=tmp_path / "p", projects=tmp_path / "a:b")
    assert AppOptions.from_environment(told.environment()) == told
    told = AppOptions((tmp_path,), allow_code=True)
    assert AppOptions.from_environment(told.environment()) == told


def test_runs_of_the_app_may_run_code_only_where_that_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.models.specs import Permissions

    for allowed in (False, True):
        for name, value in AppOptions((tmp_path,), allow_code=allowed).environment().items():
            monkeypatch.setenv(name, value)
        assert Permissions.from_environment().code is allowed


def test_without_options_the_current_folder_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert AppOptions.from_environment({}) == AppOptions((Path.cwd(),))


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("192.0.2.7", False), ("box", False)],
)
def test_which_addresses_only_this_machine_reaches(host: str, local: bool) -> None:
    assert serve.is_local(host) is local


def test_a_taken_port_is_said_and_another_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}.*Choose another --port"):
            serve.free_port("127.0.0.1", port)
    assert serve.free_port("127.0.0.1", port) == port
    assert serve.free_port("127.0.0.1", None) >= serve.FIRST_PORT


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("203.0.113.9", None), ("no such host", 8501)])
def test_what_cannot_be_listened_on_is_said(host: str, port: int | None) -> None:
    with pytest.raises(InputError, match="Choose another"):
        serve.free_port(host, port)


def test_the_server_is_told_to_keep_to_itself() -> None:
    line = serve.command_line("127.0.0.1", 9000)
    told = dict(zip(line[6::2], line[7::2], strict=True))
    hosts = [value for name, value in zip(line[6::2], line[7::2], strict=True) if name == "--server.allowedHosts"]
    assert hosts == ["localhost", "127.0.0.1", "::1"]
    assert "--server.allowedHosts" not in serve.command_line("0.0.0.0", 9000)
    assert line[:5] == [sys.executable, "-P", "-m", "streamlit", "run"]
    assert Path(line[5]).name == "app.py"
    assert told["--server.address"] == "127.0.0.1"
    assert told["--browser.gatherUsageStats"] == "false"
    assert told["--client.showErrorDetails"] == "none"
    assert told["--server.enableStaticServing"] == "false"


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80/map?project=a+b"), ("0.0.0.0", "http://localhost:80/map?project=a+b"),
     ("::1", "http://[::1]:80/map?project=a+b")],
)  # fmt: skip
def test_addresses(host: str, url: str) -> None:
    assert serve.address(host, 80, "map", project="a b") == url


def test_a_named_project_brings_its_own_folders(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 12)
    opening.commands.new(tmp_path / "work" / "p", f"folder:{images}")
    told = opening.allowed(tmp_path / "work" / "p", [], read_only=False)
    assert told.roots == (Path.cwd(), tmp_path / "work" / "p", images)
    assert told.project == tmp_path / "work" / "p"
    assert opening.allowed(None, [images], read_only=True) == AppOptions((images,), True)
    place = tmp_path / "new"
    assert opening.allowed(None, [images], False, place) == AppOptions((images, place), False, None, place)


def test_a_root_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="nowhere is no folder"):
        opening.allowed(None, [tmp_path / "nowhere"], read_only=False)


def test_the_demo_does_not_take_over_another_project(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 12)
    opening.commands.new(tmp_path / "p", f"folder:{images}")
    with pytest.raises(ProjectError, match="holds another project"):
        opening.demo_project(tmp_path / "p", "digits", Progress())


def test_a_new_project_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    assert opening.free_folder(tmp_path, "folder:/data/pets") == tmp_path / "pets"
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets-2").mkdir()
    assert opening.free_folder(tmp_path, "table:/data/pets.csv") == tmp_path / "pets-3"
    assert opening.free_folder(tmp_path, "digits") == tmp_path / "digits"


def test_a_server_that_ends_at_once_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "command_line", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    with unchecked():
        server = serve.Server(AppOptions((tmp_path,)))
        with pytest.raises(ProjectError, match="exit 3"):
            server.wait_until_up()


def test_no_image_outside_the_folders_of_the_app_is_read_by_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.data.sources.base import ROOTS, read_file

    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "in" / "own").write_bytes(b"y")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    assert read_file(str(tmp_path / "secret")) == b"x"
    monkeypatch.setenv(ROOTS, json.dumps([str(tmp_path / "in"), str(tmp_path / "gone")]))
    assert read_file(str(tmp_path / "in" / "own")) == b"y"
    for spelling in (tmp_path / "secret", tmp_path / "in" / "link", tmp_path / "in" / ".." / "secret"):
        found = read_file(str(spelling))
        assert isinstance(found, InputError)
        assert "outside the folders" in str(found)
