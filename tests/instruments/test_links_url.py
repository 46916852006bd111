"""Addresses: what each one means, and that a wrong one is refused with the part that is wrong."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hil.errors import ConfigError
from instruments.links.showing import shown
from instruments.links.url import Framing, ReplayAddress, SerialAddress, TcpAddress, VisaAddress, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://127.0.0.1:5025", ("127.0.0.1", 5025)),
        ("TCP://lab-pc.local:1", ("lab-pc.local", 1)),
        ("tcp://[::1]:65535", ("::1", 65535)),
        ("tcp://[fe80::1%eth0]:5025/", ("fe80::1%eth0", 5025)),
    ],
)
def test_tcp(url, address):
    assert parse(url) == TcpAddress(url, *address)


@pytest.mark.parametrize(
    ("url", "device", "framing"),
    [
        ("serial:///dev/ttyACM0", "/dev/ttyACM0", Framing(115200, 8, "N", 1.0)),
        ("serial:///dev/ttyACM0?baud=921600&parity=E", "/dev/ttyACM0", Framing(921600, 8, "E", 1.0)),
        ("serial://COM3?bits=7&parity=o&stop=1.5", "COM3", Framing(115200, 7, "O", 1.5)),
        ("serial:///dev/serial/by-id/a%3Fb", "/dev/serial/by-id/a?b", Framing()),
    ],
)
def test_serial(url, device, framing):
    assert parse(url) == SerialAddress(url, device, framing)


@pytest.mark.parametrize(
    ("rest", "resource", "backend", "device"),
    [
        ("TCPIP::127.0.0.1::5025::SOCKET", "TCPIP::127.0.0.1::5025::SOCKET", "@py", None),
        ("USB0::0x05E6::0x2450::04::INSTR?backend=@ivi", "USB0::0x05E6::0x2450::04::INSTR", "@ivi", None),
        ("ASRL/dev/pts/3::INSTR?baud=9600", "ASRL/dev/pts/3::INSTR", "@py", "/dev/pts/3"),
        ("asrl3?backend=b.yaml@sim", "asrl3", "b.yaml@sim", "COM3"),
    ],
)
def test_visa(rest, resource, backend, device):
    address = parse(f"visa://{rest}")
    assert isinstance(address, VisaAddress)
    assert (address.resource, address.backend, address.device) == (resource, backend, device)
    assert (address.framing is None) == (device is None)


def test_replay():
    assert parse("replay:runs/a:b.jsonl") == ReplayAddress("replay:runs/a:b.jsonl", "runs/a:b.jsonl")


@pytest.mark.parametrize(
    ("url", "key", "suggestion"),
    [
        ("", "scheme", None),
        ("127.0.0.1:5025", "scheme", None),
        ("serail:///dev/ttyS0", "scheme", "serial"),
        ("tcp:127.0.0.1:5025", "scheme", None),
        ("tcp://127.0.0.1", "host", None),
        ("tcp://user@host:1", "host", None),
        ("tcp://::1:5025", "host", None),
        ("tcp://host:", "port", None),
        ("tcp://host:0", "port", None),
        ("tcp://host:65536", "port", None),
        ("tcp://host:٥", "port", None),
        ("tcp://host:1_0", "port", None),
        ("tcp://host:1?baud=9600", "option", None),
        ("serial://", "device", None),
        ("serial:///dev/ttyS0?boud=9600", "option", "baud"),
        ("serial:///dev/ttyS0?baud=fast", "baud", None),
        ("serial:///dev/ttyS0?baud=0", "baud", None),
        ("serial:///dev/ttyS0?baud=", "baud", None),
        ("serial:///dev/ttyS0?baud=9600&baud=1200", "baud", None),
        ("serial:///dev/ttyS0?parity=X", "parity", None),
        ("serial:///dev/ttyS0?bits=9", "bits", None),
        ("serial:///dev/ttyS0?stop=3", "stop", None),
        ("visa://5025", "resource", None),
        ("visa://TCPIP::host::0::SOCKET", "port", None),
        ("visa://TCPIP::host::5025::SOCKET?baud=9600", "baud", None),
        ("visa://ASRL3::INSTR?backend=ni", "backend", None),
        ("replay:", "path", None),
        ("tcp://host\x1b[31m:1", "url", None),
        ("tcp://host\n:1", "url", None),
        ("tcp://" + "a" * 2000 + ":1", "url", None),
    ],
)
def test_wrong_part_is_named(url, key, suggestion):
    with pytest.raises(ConfigError) as caught:
        parse(url)
    (problem,) = caught.value.problems
    assert (problem.key, problem.suggestion) == (key, suggestion)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@given(
    st.one_of(
        st.text(max_size=60),
        st.builds(
            lambda scheme, rest: scheme + rest,
            st.sampled_from(["tcp://", "tcp://[", "serial://", "serial:///dev/x?", "visa://ASRL", "visa://TCPIP::"]),
            st.text(st.sampled_from("a:1?=&[]%/@ \x1b\u202e.baudparity"), max_size=40),
        ),
    )
)
@example("visa://::SOCKET")
@example("visa://TCPIP::SOCKET")
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_text_is_an_address_or_refused_in_one_clean_line(url):
    try:
        assert parse(url).url == url
    except ConfigError as error:
        assert str(error).isprintable()


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_shown_text_is_one_printable_line(text):
    line = shown(text, 50)
    assert line.isprintable()
    assert len(line) <= 50 * len("\\U0001f600") + len("... (150 more)")


def test_shown_text_keeps_what_is_harmless():
    assert shown("Müller µA") == "Müller µA"
    assert shown(b"ACME\r\n\x1b[2J\xff\\") == r"ACME\r\n\x1b[2J\xff\\"
    assert shown("a" * 130) == "a" * 120 + "... (10 more)"
