"""Arrays out of files that a user brings: IDX (plain or gzip) and npz. Nothing in a file is trusted.

What a file declares is checked before anything is allocated, no file can make more than ``MOST_BYTES`` of an array,
and pickled objects are never loaded. Every problem is a ``ConfigError`` with the path, what is wrong and what was
expected.
"""

from __future__ import annotations

import gzip
import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hil.errors import ConfigError
from hil.lab.plain import MAX_PATH, printable

Array = NDArray[Any]

MOST_BYTES = 1 << 30
"""Bytes that one array may take."""

_HEAD = 16 * 1024  # a .npy header is far shorter, and numpy takes no more than 10,000 characters
_CHUNK = 1 << 20
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
# What gzip, zipfile and numpy raise at a file that is damaged or made to harm.
_DAMAGE = (
    EOFError, MemoryError, NotImplementedError, OverflowError, RecursionError, RuntimeError, SyntaxError, TypeError,
    ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def unusable(path: Path, problem: str) -> ConfigError:
    """The error for a file that cannot be used."""
    return ConfigError.at(printable(str(path), MAX_PATH), "", problem)


def read_idx(path: Path) -> Array:
    """Reads an IDX file, plain or gzip: two zero bytes, type, number of axes, sizes (big-endian), values.

    Raises:
        ConfigError: the file cannot be read, or is not a whole IDX file.
    """
    with _opened(path, "an IDX file") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not 1 <= magic[3] <= 4:
            raise unusable(path, f"expected an IDX file (00 00, type, 1 to 4 axes), it begins with {_hex(magic)}")
        sizes = file.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise unusable(
                path, f"expected an IDX file with {magic[3]} sizes, it ends after {len(sizes)} bytes of them"
            )
        shape = [int(size) for size in np.frombuffer(sizes, ">u4")]
        return _values(path, file, np.dtype(_IDX_TYPES[magic[2]]), shape)


def read_npz(path: Path, *choices: Sequence[str]) -> dict[str, Array]:
    """Reads arrays of an npz file by name, without ever unpickling.

    Args:
        path: the file.
        choices: names that belong together; the first choice that the file has in full is read.

    Raises:
        ConfigError: the file cannot be read, has none of the choices, or holds something else than numbers.
    """
    with _opened(path, "an npz file") as raw, zipfile.ZipFile(raw) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        names = next((names for names in choices if there.issuperset(names)), None)
        if names is None:
            wanted = " or ".join(", ".join(names) for names in choices)
            held = printable(", ".join(sorted(there)[:20])) or "nothing"
            raise unusable(path, f"expected the arrays {wanted}, it holds {held}")
        return {name: _member(path, archive, name) for name in names}


def npz_names(path: Path, most: int) -> list[str]:
    """The entries of a zip archive, as npz files are, by name; what they declare together is at most ``most`` bytes.

    Raises:
        ConfigError: the file cannot be read, or declares more.
    """
    with _opened(path, "an npz file") as raw, zipfile.ZipFile(raw) as archive:
        entries = archive.infolist()
        declared = sum(entry.file_size for entry in entries)  # no entry gives more than it declares
        if declared > most:
            raise unusable(path, f"expected at most {most >> 20} MiB, it declares {declared} bytes")
        return [entry.filename for entry in entries]


@contextmanager
def _opened(path: Path, what: str) -> Generator[IO[bytes]]:
    """Opens a regular file; turns whatever a damaged one makes the libraries raise into a ``ConfigError``."""
    try:
        if not path.is_file():  # a pipe or a device would block, or never end
            raise unusable(path, f"expected {what}, there is " + ("no regular file" if path.exists() else "no file"))
        with path.open("rb") as file:
            yield file
    except OSError as error:  # gzip.BadGzipFile is one, too
        raise unusable(path, f"expected {what} that can be read: {error.strerror or printable(str(error))}") from error
    except _DAMAGE as error:
        raise unusable(path, f"expected {what}, it is damaged: {printable(str(error) or 'it ends early')}") from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> Array:
    """Reads one array of an npz file."""
    entry = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    with archive.open(entry) as file:
        head = io.BytesIO(file.read(_HEAD))
        version = npy.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise unusable(path, f"{name}: expected .npy format 1.0 or 2.0, got {version[0]}.{version[1]}")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(head)
        if dtype.kind not in "uif":
            raise unusable(path, f"{name}: expected an array of numbers, got {printable(str(dtype), 60)}")
        if any(size < 0 for size in shape):
            raise unusable(path, f"{name}: expected sizes of at least 0, got {list(shape)}")
        values = _values(path, file, dtype, shape[::-1] if is_fortran else shape, name=f"{name}: ", first=head.read())
        return values.T if is_fortran else values


def _values(
    path: Path, file: IO[bytes], dtype: np.dtype[Any], shape: Sequence[int], *, name: str = "", first: bytes = b""
) -> Array:
    """Reads exactly the values of a shape; a file can hold neither fewer nor more."""
    expected = math.prod(shape) * dtype.itemsize
    if expected > MOST_BYTES:
        sizes = printable(f"{list(shape)} of {dtype.itemsize} bytes")
        raise unusable(path, f"{name}expected an array of at most {MOST_BYTES >> 20} MiB, it declares {sizes}")
    data = bytearray(first)
    while len(data) <= expected and (chunk := file.read(min(_CHUNK, expected + 1 - len(data)))):
        data += chunk
    if len(data) != expected:
        seen = f"it ends after {len(data)}" if len(data) < expected else "it goes on after that"
        sizes = printable(f"{list(shape)} of {dtype.itemsize} bytes")
        raise unusable(path, f"{name}expected values {sizes}, together {expected} bytes, {seen}")
    return np.frombuffer(data, dtype).reshape(shape)


def _hex(data: bytes) -> str:
    return data.hex(" ") or "nothing"
