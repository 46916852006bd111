"""The script of a regression test: it answers in order, and fails on all that differs."""

import time

import pytest

from hil.errors import LinkLost, LinkTimeout
from instruments.links.script import Script, ScriptMismatch
from instruments.session import Session


def test_answers_in_order():
    with Script([(b"*IDN?\n", b"ACME\n"), (b"OUTP OFF\n", None), (b"READ?\n", b"1\n")]) as script:
        session = Session(script)
        session.write(b"*IDN?\n", 1)
        assert session.line(b"\n", 1) == b"ACME"
        session.write(b"OUTP OFF\n", 1)
        session.write(b"READ?\n", 1)
        assert session.line(b"\n", 1) == b"1"


def test_messages_may_be_cut_and_joined():
    with Script([(b"ab", b"1"), (b"cd", b"2"), (b"ef", b"3")]) as script:
        for part in (b"a", b"bcde", b"f"):
            script.write(part, 0)
        assert Session(script).exactly(3, 1) == b"123"


def test_silence_and_unasked_bytes_and_errors():
    script = Script([(b"", b"hello"), (b"a", None), (b"b", LinkLost("x", "gone"))])
    session = Session(script)
    assert session.exactly(5, 1) == b"hello"
    session.write(b"a", 1)
    started = time.monotonic()
    with pytest.raises(LinkTimeout):
        session.exactly(1, 0.02)
    assert time.monotonic() - started >= 0.02
    session.write(b"b", 1)
    with pytest.raises(LinkLost, match="gone"):
        session.exactly(1, 1)
    script.finish()


def test_a_difference_is_shown_where_it_is():
    script = Script([(b"VOLT 0.3;" * 9 + b"OUTP ON\n", b"")], "script:smu")
    with pytest.raises(ScriptMismatch) as caught:
        script.write(b"VOLT 0.3;" * 9 + b"OUTP OFF\n", 0)
    text = str(caught.value)
    assert "script:smu pair 0: the bytes differ at position 87" in text
    assert r"OUTP ON\n" in text and r"OUTP OFF\n" in text
    with pytest.raises(ScriptMismatch, match="differ at position 87"):  # also when the driver swallowed it
        script.finish()


def test_more_than_the_script():
    script = Script([(b"a", None)])
    with pytest.raises(ScriptMismatch, match="ended after 1 pairs"):
        script.write(b"ab", 0)


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"", "2 pairs were not used; pair 0"),
        (b"ab", "began to send"),
        (b"abc", "1 pairs were not used; pair 1"),
        (b"abcde", "1 answers were not read"),
    ],
)
def test_what_is_left_over_fails(sent, problem):
    script = Script([(b"abc", None), (b"de", b"x")])
    with pytest.raises(ScriptMismatch, match=problem), script:
        script.write(sent, 0)


def test_an_exception_in_the_block_is_not_hidden():
    with pytest.raises(KeyError), Script([(b"a", None)]):
        raise KeyError


def test_drain_and_close():
    script = Script([(b"a", b"xyz")])
    script.write(b"a", 0)
    assert script.drain() == 3
    script.finish()
    script.close()
    assert script.closed
    with pytest.raises(LinkLost):
        script.write(b"a", 0)
