"""Where a path leads decides, not how it is spelled: nothing outside the roots is opened."""

import os
import socket
from pathlib import Path

import pytest

from core.errors import InputError
from core.roots import OUTSIDE, Roots


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Roots:
    """Two roots; beside them a secret, a folder whose name begins like a root's, and links of every kind."""
    for folder in ("root/sub", "second", "root-evil", "out/deep", "home/own"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("root/in.txt", "root/sub/in.txt", "second/in.txt"):
        (tmp_path / file).write_text("inside")
    for file in ("secret.txt", "root-evil/secret.txt", "out/secret.txt", "out/deep/secret.txt"):
        (tmp_path / file).write_text("secret")
    root = tmp_path / "root"
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "linked").symlink_to(tmp_path / "out")
    (root / "deeper").symlink_to(tmp_path / "out/deep")
    (root / "relative.txt").symlink_to("../secret.txt")
    (root / "chain.txt").symlink_to("link.txt")
    (root / "loop").symlink_to("loop")
    (root / "dangling.txt").symlink_to(tmp_path / "nowhere/new.txt")
    (root / "good.txt").symlink_to("sub/in.txt")
    (root / "proc").symlink_to("/proc/self")
    (root / "zero").symlink_to("/dev/zero")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Roots.parse([str(root), str(tmp_path / "second")])


# Every spelling of a file outside the roots; {0} is the folder above the roots, {1} its parent.
OUTSIDE_SPELLINGS = {
    "absolute": "{0}/secret.txt",
    "above the root": "{0}",
    "the file system": "/",
    "dots": "../secret.txt",
    "dots inside": "sub/../../secret.txt",
    "dots from the root": "{0}/root/../secret.txt",
    "dots beyond the top": "../../../../../../../../../../../../../../../../etc/passwd",
    "dots alone": "..",
    "doubled slashes": "{0}//root//..//secret.txt",
    "dot steps": "./././../secret.txt",
    "three slashes first": "///etc/passwd",
    "two slashes first": "//etc/passwd",
    "neighbour with the same beginning": "{0}/root-evil/secret.txt",
    "link to a file": "link.txt",
    "link, absolute": "{0}/root/link.txt",
    "link, relative": "relative.txt",
    "link to a link": "chain.txt",
    "through a linked folder": "linked/secret.txt",
    "linked folder itself": "linked",
    "dots after a link": "deeper/../secret.txt",
    "link to nothing": "dangling.txt",
    "home": "~",
    "in the home": "~/own",
    "other's home": "~root",
    "in another's home": "~root/.profile",
    "nobody's home": "~nobody-of-this-name/x",
    "file address": "file://{0}/secret.txt",
    "file address, three slashes": "file:///etc/passwd",
    "file address without slashes": "file:/etc/passwd",
    "address in capitals": "FILE:///etc/passwd",
    "web address": "http://127.0.0.1/secret.txt",
    "other address": "ftp://host/secret.txt",
    "data address": "data://text/plain,x",
    "environment of the process": "/proc/self/environ",
    "process through a link": "proc/environ",
    "current folder of the process": "/proc/self/cwd/../../../../../../../../../etc/passwd",
    "top through the process": "/proc/self/root/etc/passwd",
    "device": "/dev/zero",
    "device through a link": "zero",
    "open file of the process": "/dev/fd/0",
    "upper case": "{0}/ROOT/in.txt",
    "dot after the root": "{0}/root./in.txt",
    "blank after the root": "{0}/root /in.txt",
    "zero byte": "in.txt\0.png",
    "zero byte after the root": "{0}/root\0/../secret.txt",
    "line break": "in.txt\n",
    "no text": "",
    "blanks": "   ",
    "not UTF-8": "\udcff/secret.txt",
    "very long": "a/" * 3000,
    "very long way out": "sub/../" * 700 + "../secret.txt",
}


@pytest.mark.parametrize("spelling", OUTSIDE_SPELLINGS.values(), ids=OUTSIDE_SPELLINGS.keys())
def test_no_spelling_leads_out(spelling: str, places: Roots, tmp_path: Path) -> None:
    text = spelling.format(tmp_path)
    with pytest.raises(InputError):
        places.resolve(text)
    for kind in ("folder", "table"):
        if text:
            with pytest.raises(InputError):
                places.resolve_spec(f"{kind}:{text}")


# Spellings that the web decodes elsewhere are plain names here: no such file, inside the root.
ODD_NAMES = ["%2e%2e/secret.txt", "..%2fsecret.txt", "..\\secret.txt", "C:\\secret.txt", "...", "....//secret.txt",
             "．．/secret.txt", "‥/secret.txt", "in.txt::$DATA", "in.txt.", "in.txt ", "IN.TXT"]  # fmt: skip


@pytest.mark.parametrize("spelling", ODD_NAMES)
def test_what_another_system_would_read_as_a_way_out_is_a_name(spelling: str, places: Roots) -> None:
    path = places.resolve(spelling)
    assert path.is_relative_to(places.folders[0])
    assert isinstance(places.read(path), InputError)


@pytest.mark.parametrize(
    "spelling",
    ["in.txt", "{0}/root/in.txt", "sub/../in.txt", "{0}/second/in.txt", "../second/in.txt", "good.txt", "./in.txt",
     "{0}/root-evil/../root/in.txt", "linked/../root/in.txt", "/proc/self/root/{0}/root/in.txt"],
)  # fmt: skip
def test_a_path_that_leads_inside_is_good_however_it_is_spelled(spelling: str, places: Roots, tmp_path: Path) -> None:
    path = places.resolve(spelling.format(tmp_path))
    assert ".." not in path.parts
    assert places.read(path) == b"inside"


def test_a_file_that_is_still_to_be_made_may_be_named(places: Roots) -> None:
    assert places.resolve("new/project") == places.folders[0] / "new/project"


def test_the_message_names_the_roots_and_not_where_a_link_leads(places: Roots, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        places.resolve("link.txt")
    assert str(caught.value) == (
        "link.txt is outside the folders this app may read; start it with --root. "
        f"The folders: {tmp_path}/root, {tmp_path}/second."
    )


def test_a_file_outside_is_refused_in_the_same_words_whether_it_is_there_or_not(places: Roots, tmp_path: Path) -> None:
    messages = set()
    for name in ("secret.txt", "absent.txt"):
        with pytest.raises(InputError) as caught:
            places.resolve(f"{tmp_path}/{name}")
        messages.add(str(caught.value).replace(name, "X"))
    assert len(messages) == 1


@pytest.mark.parametrize("spec", ["digits", "pictograms"])
def test_a_source_without_a_path_stays_as_it_is(spec: str, places: Roots) -> None:
    assert places.resolve_spec(spec) == spec


def test_the_path_of_a_source_is_resolved(places: Roots) -> None:
    assert places.resolve_spec("table:good.txt") == f"table:{places.folders[0]}/sub/in.txt"


# --- opening ---


@pytest.mark.parametrize(
    "name",
    ["link.txt", "linked/secret.txt", "chain.txt", "zero", "proc/environ", "loop", "dangling.txt", "../secret.txt"],
)
def test_nothing_outside_is_read_even_if_nobody_resolved_it(name: str, places: Roots) -> None:
    answer = places.read(places.folders[0] / name)
    assert isinstance(answer, InputError)
    assert not places.holds(places.folders[0] / name) or name == "loop"


def test_a_link_put_in_place_after_the_check_is_not_followed(
    places: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.path.realpath

    def swap(target: Path, by: Path):
        def realpath(path, **named):
            found = real(path, **named)
            if target.exists() and not target.is_symlink():
                target.rename(f"{target}-aside")
                target.symlink_to(by)
            return found

        return realpath

    file = places.folders[0] / "in.txt"
    monkeypatch.setattr(os.path, "realpath", swap(file, tmp_path / "secret.txt"))
    assert isinstance(places.read(file), InputError)
    assert file.read_text() == "secret"  # a plain open would have followed it
    folder = places.folders[0] / "sub"
    (tmp_path / "out/in.txt").write_text("secret")
    monkeypatch.setattr(os.path, "realpath", swap(folder, tmp_path / "out"))
    assert isinstance(places.read(folder / "in.txt"), InputError)
    assert (folder / "in.txt").read_text() == "secret"


def test_a_root_that_becomes_a_link_is_not_followed(places: Roots, tmp_path: Path) -> None:
    root = places.folders[1]
    root.rename(tmp_path / "aside")
    root.symlink_to(tmp_path / "out")
    assert isinstance(places.read(root / "secret.txt"), InputError)


def test_a_pipe_a_socket_and_a_folder_are_no_files(places: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    root = places.folders[0]
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("pipe", "socket", "sub", "."):
            assert isinstance(places.read(root / name), InputError)


def test_devices_are_refused_even_when_everything_is_allowed() -> None:
    everything = Roots.parse(["/"])
    for device in ("/dev/zero", "/dev/null", "/dev/full"):
        assert "not a regular file" in str(everything.read(device))


def test_no_more_than_the_limit_is_read(places: Roots) -> None:
    assert places.read("/nowhere").args == (OUTSIDE,)
    root = places.folders[0]
    with (root / "large").open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing
    assert "the limit" in str(places.read(root / "large"))
    assert places.read(root / "in.txt", limit=6) == b"inside"
    assert isinstance(places.read(root / "in.txt", limit=5), InputError)


def test_a_folder_is_opened_as_one(places: Roots) -> None:
    root = places.folders[0]
    for path in (root, root / "sub"):
        handle = places.open(path, folder=True)
        assert "in.txt" in os.listdir(handle)  # noqa: PTH208 -- an open folder
        os.close(handle)
    for wrong in ("in.txt", "linked", "none"):
        with pytest.raises(InputError):
            places.open(root / wrong, folder=True)


def test_descriptors_are_closed(places: Roots) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("in.txt", "sub/in.txt", "sub", "none/none", "linked/secret.txt", "in.txt/x"):
        places.read(places.folders[0] / name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_many_paths_are_judged_as_single_ones_are(places: Roots, tmp_path: Path) -> None:
    root = places.folders[0]
    paths = [
        f"{root}/in.txt", f"{root}/sub/in.txt", f"{root}/link.txt", f"{root}/linked/secret.txt", f"{root}/good.txt",
        f"{root}/..", f"{root}/../secret.txt", f"{root}/absent.png", f"{tmp_path}/secret.txt", "", "x\0y",
        f"{root}/sub/", f"{root}/deeper/../secret.txt", f"{root}/proc/environ",
    ]  # fmt: skip
    assert places.outside(paths) == [not places.holds(path) for path in paths]


# --- the roots themselves ---


def test_roots_are_resolved_once_and_nested_ones_left_out(places: Roots, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    texts = [f"{tmp_path}/alias", f"{tmp_path}/root/sub", f"{tmp_path}/root", "~/own"]
    assert Roots.parse(texts).folders == (tmp_path / "root", tmp_path / "home/own")


def test_the_roots_are_named_in_one_line(places: Roots, tmp_path: Path) -> None:
    assert Roots.parse(["~", f"{tmp_path}/second"]).text == f"~, {tmp_path}/second"
    assert Roots.parse(["~/own"]).text == "~/own"


@pytest.mark.parametrize("texts", [[], [""], ["\0"], ["~root"], ["{0}/secret.txt"]])
def test_a_root_that_is_no_folder_is_told(texts: list[str], places: Roots, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Roots.parse([text.format(tmp_path) for text in texts])
