"""Ownership of boards: one owner among all programs, free when he is gone, and no way round it by another name."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from wire_ends import PtyBoard

from hil.errors import BoardInUse, ConfigError, LinkLost, UsageError
from instruments import ownership
from instruments.locking import lock_folder
from instruments.ownership import device_lock, owned, owners

HOSTILE = json.dumps({"pid": 7, "board": "\x1b[2J" * 200, "user": "\n", "host": "\u202e", "run": "a" * 900})
EVERYDAY = ownership.PATIENCE

OWNER = "import sys, time; from instruments.ownership import owned; o = owned(sys.argv[1], 'night run');"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HIL_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr("instruments.ownership.PATIENCE", 0.02)
    return tmp_path / "locks"


def start_owner(board, then="print('owned', flush=True); time.sleep(60)"):
    """Another process that owns a board."""
    process = subprocess.Popen([sys.executable, "-c", OWNER + then, board], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "owned\n"
    return process


def test_one_owner_also_inside_one_process(monkeypatch):
    assert EVERYDAY < 1
    monkeypatch.setattr("instruments.ownership.PATIENCE", EVERYDAY / 5)
    with owned("D-07", "first") as first:
        started = time.monotonic()
        with pytest.raises(BoardInUse) as caught:
            owned("D-07", "second")
        assert time.monotonic() - started < 2
        error = caught.value
        assert (error.board, error.pid, error.run) == ("D-07", os.getpid(), "first")
        assert (error.host, error.user, error.since) == (
            first.owner.host,
            first.owner.user,
            first.owner.since,
        )
        owned("D-08").close()
    with owned("D-07"):
        pass


def test_another_process_is_named_and_its_death_frees_the_board():
    process = start_owner("D-07")
    try:
        with pytest.raises(BoardInUse, match=f"in use by process {process.pid} .* run night run"):
            owned("D-07")
        assert [(owner.board, owner.pid, owner.run) for owner in owners()] == [("D-07", process.pid, "night run")]
    finally:
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait(10)
        process.stdout.close()
    assert owners() == []
    started = time.monotonic()
    owned("D-07").close()
    assert time.monotonic() - started < 0.3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_board():
    fork = "import os; r, w = os.pipe(); child = os.fork();\nif child == 0: time.sleep(30); os._exit(0)\n"
    process = start_owner("D-07", fork + "print('owned', flush=True); os.kill(child, 0); print(child, flush=True)")
    child = int(process.stdout.readline())
    try:
        process.wait(10)
        owned("D-07").close()
        os.kill(child, 0)  # it is alive, and the board is free
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_names_that_look_alike_are_different_boards(folder):
    names = ["a/b", "a_b", "A_B", "a\\b", "../a", ".", "x" * 300, "x" * 301, "ä", "a\0b", "a\nb"]
    held = [owned(name) for name in names]
    files = sorted(path.name for path in folder.iterdir())
    assert len(files) == len({name.lower() for name in files}) == len(names)
    assert all(len(name) < 100 and name.startswith("board-") for name in files)
    assert {owner.pid for owner in owners()} == {os.getpid()} and len(owners()) == len(names)
    for one in held:
        one.close()
        one.close()
    assert owners() == []


def test_a_board_without_a_serial_number():
    with pytest.raises(UsageError, match="serial number"):
        owned(" ")


def test_stale_and_foreign_files_are_no_owners(folder):
    owned("D-07").close()
    (folder / "board-x-0.lock").write_text('{"pid": 1, "board": "x"}')
    (folder / "board-y-0.lock").symlink_to("/etc/hostname")
    (folder / "board-z-0.lock").mkdir()
    (folder / "notes.txt").write_text("hello")
    assert owners() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"pid": "1", "user": 7}',
        '{"pid": true}',
        '{"pid": -5, "board": null}',
        "[" * 4000,
        "\xff",
        HOSTILE,
    ],
)
def test_hostile_facts_are_checked_and_escaped(folder, text):
    with owned("D-07"):
        (file,) = folder.iterdir()
        file.write_text(text, encoding="utf-8")
        (owner,) = owners()
        with pytest.raises(BoardInUse) as caught:
            owned("D-07")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500
    assert caught.value.pid == owner.pid >= 0


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_the_folder_is_shared_by_all_users(folder):
    previous = os.umask(0o077)
    try:
        with owned("D-07"):
            (file,) = folder.iterdir()
            assert folder.stat().st_mode & 0o7777 == 0o1777
            assert file.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(previous)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_folder_that_others_can_replace_is_refused(folder, tmp_path, monkeypatch):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="sticky"):
        owned("D-07")
    folder.chmod(0o1777)
    assert lock_folder() == folder
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="sticky"):
        owners()
    tmp_path.chmod(0o700)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        monkeypatch.setenv("HIL_LOCKS", str(tmp_path / name))
        with pytest.raises(UsageError, match="not a folder"):
            owned("D-07")
    monkeypatch.setenv("HIL_LOCKS", str(tmp_path / "none" / "deep"))
    with pytest.raises(UsageError, match="cannot be made"):
        owned("D-07")


def test_a_lock_file_that_is_a_link_is_refused(folder, tmp_path):
    owned("D-07").close()
    (file,) = folder.iterdir()
    target = tmp_path / "precious"
    target.write_text("precious")
    for make in (file.symlink_to, file.hardlink_to):
        file.unlink()
        make(target)
        with pytest.raises(UsageError, match="lock"):
            owned("D-07")
    assert target.read_text() == "precious"


@pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")
def test_a_device_has_one_owner_under_all_its_names(tmp_path):
    with PtyBoard() as board, PtyBoard() as other:
        (tmp_path / "my board").symlink_to(board.name)
        urls = [
            f"serial://{board.name}",
            f"visa://ASRL{board.name}::INSTR",
            f"serial://{tmp_path}/my%20board?baud=9600",
        ]
        for url in urls:
            with device_lock(url, "first"):
                for again in urls:
                    with pytest.raises(BoardInUse, match="run first"):
                        device_lock(again)
                device_lock(f"serial://{other.name}").close()
                assert len(owners()) == 1


@pytest.mark.skipif(not hasattr(os, "mknod"), reason="needs device nodes")
def test_two_nodes_of_one_device_are_one(tmp_path):
    with PtyBoard() as board:
        facts = os.stat(board.name)
        try:
            os.mknod(tmp_path / "node", facts.st_mode, facts.st_rdev)
        except PermissionError:
            pytest.skip("this account may not make device nodes")
        with device_lock(f"serial://{board.name}"), pytest.raises(BoardInUse):
            device_lock(f"serial://{tmp_path}/node")


def test_what_is_no_device_needs_no_lock():
    assert device_lock("tcp://127.0.0.1:5025") is None
    assert device_lock("visa://TCPIP::127.0.0.1::5025::SOCKET") is None
    with pytest.raises(LinkLost, match="no such port"):
        device_lock("serial:///dev/ttyNOSUCH")
    with pytest.raises(ConfigError):
        device_lock("serial://")


def test_fifty_times():
    for _ in range(50):
        owned("D-07").close()
