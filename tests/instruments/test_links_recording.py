"""Transcripts: what went through a link, and a link that plays it again."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import ConfigError, LinkLost
from instruments.links.opening import open_link
from instruments.links.recording import RecordingLink, replayed
from instruments.links.script import Script, ScriptMismatch
from instruments.session import Session


def ask(session):
    session.write(b"*IDN?\n", 1)
    name = session.line(b"\n", 1)
    session.write(b"\x00\xff", 1)
    session.write(b"READ?\n", 1)
    return name, session.exactly(3, 1)


def test_a_recording_plays_again(tmp_path):
    path = tmp_path / "a.jsonl"
    script = Script([(b"*IDN?\n", b"ACME\n"), (b"\x00\xff", None), (b"READ?\n", b"1\n\x80")])
    recorded = Session(RecordingLink(script, path, iter(range(99)).__next__))
    first = ask(recorded)
    recorded.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"t": 1, "dir": "sent", "hex": "2a49444e3f0a"},
        {"t": 2, "dir": "got", "hex": "41434d450a"},
        {"t": 3, "dir": "sent", "hex": "00ff"},
        {"t": 4, "dir": "sent", "hex": "524541443f0a"},
        {"t": 5, "dir": "got", "hex": "310a80"},
    ]
    link = open_link(f"replay:{path}")
    assert ask(Session(link)) == first == (b"ACME", b"1\n\x80")
    link.finish()
    with pytest.raises(ScriptMismatch):
        open_link(f"replay:{path}").write(b"*RST\n", 0)


def test_a_lost_link_is_lost_again(tmp_path):
    path = tmp_path / "a.jsonl"
    recorded = RecordingLink(Script([(b"a", LinkLost("x", "unplugged"))]), path)
    recorded.write(b"a", 0)
    with pytest.raises(LinkLost):
        recorded.read(1, 0)
    recorded.close()
    link = replayed(path)
    link.write(b"a", 0)
    with pytest.raises(LinkLost, match="unplugged"):
        link.read(1, 0)
    link.finish()


@pytest.mark.parametrize(
    "line",
    ["", "[]", "{", '{"dir": "sent"}', '{"dir": "sent", "hex": "0g"}', '{"dir": "sent", "hex": 7}', "[" * 5000, "null"],
)
def test_what_is_no_line_of_a_transcript_is_refused_with_its_place(tmp_path, line):
    refuse(tmp_path, line)


@pytest.mark.parametrize("line", ['{"dir": "up\\u001b", "hex": ""}', '{"dir": [], "hex": ""}', '{"dir": "lost"}'])
def test_what_is_no_direction_is_refused_with_its_place(tmp_path, line):
    refuse(tmp_path, line)


def refuse(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": 0, "dir": "sent", "hex": "00"}\n' + line + "\n")
    with pytest.raises(ConfigError, match="a.jsonl:2") as caught:
        replayed(path)
    assert str(caught.value).isprintable()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        open_link(f"replay:{tmp_path}/none.jsonl")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        replayed(tmp_path / "b")


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=6))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_any_exchange_plays_again(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("transcript") / "a.jsonl"

    def speak(link):
        heard = []
        for sent, answer in pairs:
            link.write(sent, 0) if sent else None
            heard.append(b"".join(iter(lambda: link.read(1, 0), b"")) if answer else b"")
        return b"".join(heard)

    recorded = RecordingLink(Script(pairs), path)
    first = speak(recorded)
    recorded.close()
    again = replayed(path)
    assert speak(again) == first == b"".join(answer for _, answer in pairs)
    again.finish()
