"""Files are written whole or not at all, and every obstacle is one clear line."""

import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradviz.errors import LayoutError, OutputError, UsageError
from gradviz.frontends.files import (
    FORMATS,
    Staged,
    check_folder,
    format_of,
    write_atomically,
)


def names_in(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("name", FORMATS)
def test_the_suffix_says_the_format(name):
    assert format_of(f"out.dir/loss.{name}") == name
    assert format_of(Path(f"a.b.{name.upper()}")) == name


@pytest.mark.parametrize("path", ["loss.wav", "loss", "", ".svg", "svg/loss", "loss.svg.gz"])
def test_an_unknown_suffix_lists_the_allowed_ones(path):
    allowed = r"\.svg \.png \.pdf \.eps \.html \.dot \.json \.mmd \.txt"
    with pytest.raises(UsageError, match=allowed) as caught:
        format_of(path)
    assert repr(path) in str(caught.value)


def test_an_existing_file_is_replaced_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "loss.svg"
    path.write_bytes(b"a long old picture")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["loss.svg"]


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "loss.svg", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "loss.svg").stat().st_mode) == 0o640


def test_a_symbolic_link_is_written_through(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "loss.svg"
    link.symlink_to(real / "kept.svg")  # its target need not be there yet
    write_atomically(link, b"one")
    write_atomically(link, b"two")
    assert link.is_symlink()
    assert (real / "kept.svg").read_bytes() == b"two"


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"no folder a/b; make it with: mkdir -p a/b$"):
        write_atomically("a/b/loss.svg", b"x")
    with pytest.raises(OutputError, match="mkdir -p"):
        check_folder(tmp_path / "c" / "loss.svg")


def test_the_command_that_makes_a_folder_is_quoted_where_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"no folder ö ü; make it with: mkdir -p 'ö ü'$"):
        check_folder("ö ü/loss.svg")


def without_rights(monkeypatch, *, on):
    """Refuse to write ``on`` a place, as the system does for all but root."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != on and allowed(path, mode))


def test_a_folder_without_rights_is_found_before_the_work_starts(tmp_path, monkeypatch):
    without_rights(monkeypatch, on=tmp_path)
    for name in ("new.svg", "old.svg"):  # an old file is replaced by a new one
        (tmp_path / "old.svg").write_text("old")
        with pytest.raises(OutputError, match="may not be written to by this user; write elsewh"):
            check_folder(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no such devices here")
def test_a_device_counts_itself_and_not_its_folder(monkeypatch):
    without_rights(monkeypatch, on=Path("/dev"))
    check_folder("/dev/null")


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="no read-only disks are told here")
def test_a_read_only_disk_is_found_before_the_work_starts(tmp_path, monkeypatch):
    class Disk:
        f_flag = os.ST_RDONLY

    without_rights(monkeypatch, on=tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda folder: Disk)
    with pytest.raises(OutputError, match="is on a read-only disk"):
        check_folder(tmp_path / "new.svg")


def test_a_file_where_a_folder_should_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    for path in ("file/loss.svg", "file/deeper/loss.svg"):
        with pytest.raises(OutputError, match="file is a file, not a folder"):
            write_atomically(path, b"x")
    assert Path("file").read_text() == "mine"


def test_a_folder_in_the_way(tmp_path):
    with pytest.raises(OutputError, match="it is a folder; give the name of a file in it"):
        write_atomically(tmp_path, b"x")


@pytest.mark.parametrize("path", ["a\0b.svg", "x" * 300 + ".svg"])
def test_a_name_that_no_file_can_have(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(path, b"x")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space is left on the disk"),
        (errno.EROFS, "on a read-only disk"),
        (errno.EACCES, "may not be written to by this user"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, number, said):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "loss.svg"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=said) as caught:
        write_atomically(path, b"new")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["loss.svg"]


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "loss.svg", b"new")
    assert names_in(tmp_path) == []


def test_a_dash_is_standard_output(monkeypatch):
    plain = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", plain)
    plain.write("before ")
    write_atomically("-", b"\x89PNG")
    assert plain.buffer.getvalue() == b"before \x89PNG"


def test_closed_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="standard output: it is closed; use -o FILE"):
        write_atomically("-", b"x")


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), LayoutError("no Graphviz")])
def test_files_come_together_or_not_at_all(tmp_path: Path, fault: BaseException) -> None:
    """Also when it goes wrong in the middle of a file; and the error stays what it is."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise fault

    old = tmp_path / "old.svg"
    old.write_bytes(b"old")
    with pytest.raises(type(fault)) as told, Staged() as files:
        files.add(old, b"new")
        files.add(tmp_path / "new.json", pieces())
    assert told.value is fault
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.svg", b"old")]


def test_several_files_are_put_in_place(tmp_path: Path) -> None:
    with Staged() as files:
        files.add(tmp_path / "a.svg", b"a")
        files.add(tmp_path / "b.svg", (b"b" for _ in range(3)))
        assert not list(tmp_path.glob("*.svg"))
    assert (tmp_path / "a.svg").read_bytes() == b"a"
    assert (tmp_path / "b.svg").read_bytes() == b"bbb"
    assert len(list(tmp_path.iterdir())) == 2
