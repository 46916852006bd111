"""Data that a user brings: tiny files of every kind, and files that are wrong or made to harm."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil.errors import ConfigError
from hil.lab import config
from hil.lab.tasks import Files, IdxFiles, NpzFile, Parity, arrays
from hil.lab.tasks.arrays import read_idx, read_npz

NAMES = ("train_images", "train_labels", "test_images", "test_labels")
SPLIT = ("x_train", "y_train", "x_test", "y_test")
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def idx(values: Any, kind: str = "u1") -> bytes:
    """The bytes of an IDX file, by its published layout."""
    values = np.asarray(values)
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, CODES[kind], values.ndim, *values.shape)
        + values.astype(">" + kind).tobytes()
    )


def images(count: int, side: int = 4) -> np.ndarray[Any, Any]:
    return (np.arange(count * side * side) * 37 % 256).astype(np.uint8).reshape(count, side, side)


def write_idx(packed: bool = False, **changes: bytes) -> IdxFiles:
    contents = {
        "train_images": idx(images(6)), "train_labels": idx([0, 1, 2, 0, 1, 2]),
        "test_images": idx(images(2)), "test_labels": idx([2, 0]),
    } | changes  # fmt: skip
    for name, data in contents.items():
        Path(name).write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return IdxFiles(**{name: name for name in NAMES})


def npz(**values: Any) -> NpzFile:
    np.savez_compressed("data.npz", **values)
    return NpzFile(path="data.npz")


def whole_npz(**changes: Any) -> NpzFile:
    usual = {"x_train": images(6), "y_train": [0, 1, 2] * 2, "x_test": images(2), "y_test": [2, 0]}
    return npz(**usual | changes)


def member(header: str, payload: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """The bytes of a .npy file with a header of one's own."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + payload


def zipped(**members: bytes) -> NpzFile:
    with zipfile.ZipFile("data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return NpzFile(path="data.npz")


# -- files that are right ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(packed: bool) -> None:
    samples = Files(source=write_idx(packed)).load(0)
    assert samples.classes == 3 and samples.cost == "cross_entropy"
    assert samples.train.x.dtype == torch.float32 and samples.train.y.dtype == torch.int64
    expected = images(6).reshape(6, 16).astype(float) / 127.5 - 1
    assert samples.train.x.numpy() == pytest.approx(expected, abs=1e-6)
    assert samples.train.y.tolist() == [0, 1, 2, 0, 1, 2] and samples.test.y.tolist() == [2, 0]


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 2, 2), (1, 2, 1, 3)])
def test_every_type_and_number_of_axes_of_idx(kind: str, shape: tuple[int, ...]) -> None:
    values = (np.arange(np.prod(shape)) % 100).reshape(shape)
    Path("a").write_bytes(idx(values, kind))
    assert np.array_equal(read_idx(Path("a")), values)


def test_four_arrays_of_npz_and_labels_in_a_column() -> None:  # as CIFAR-10 often comes
    colours = (np.arange(6 * 4 * 4 * 3) % 256).astype(np.uint8).reshape(6, 4, 4, 3)
    source = npz(x_train=colours, y_train=np.arange(6)[:, None], x_test=colours[:2], y_test=np.array([[5], [1]]))
    samples = Files(source=source).load(0)
    assert samples.train.x.shape == (6, 48) and samples.classes == 6
    assert samples.train.y.tolist() == list(range(6)) and samples.test.y.tolist() == [5, 1]


def test_two_arrays_of_npz_are_split_by_the_split_seed() -> None:
    x = np.linspace(-3, 3, 20).reshape(10, 2)
    source = npz(x=x, y=np.arange(10))
    a, b = Files(source=source, low=-3.0, high=3.0).load(0), Files(source=source, low=-3.0, high=3.0).load(1)
    assert len(a.train.x) == 8 and torch.equal(a.test.x, b.test.x)
    together = torch.cat([a.train.y, a.test.y])
    assert together.sort().values.tolist() == list(range(10))  # none is lost, none is in both
    assert torch.cat([a.train.x, a.test.x]).numpy() == pytest.approx(x[together] / 3, abs=1e-6)
    other = Files(source=source, low=-3.0, high=3.0, split_seed=1).load(0)
    assert not torch.equal(other.test.y, a.test.y)


def test_fortran_order_and_foreign_byte_order() -> None:
    x = np.asfortranarray(np.arange(24).reshape(2, 3, 4)).astype(">i4", order="F")
    npz(x=x, y=np.array([0, 1], dtype=">u2"))
    read = read_npz(Path("data.npz"), ("x", "y"))
    assert np.array_equal(read["x"], x) and read["y"].tolist() == [0, 1]


def test_pooling_averages_squares_of_pixels() -> None:
    x = images(3, 6)
    samples = Files(source=npz(x_train=x, y_train=[0, 1, 2], x_test=x, y_test=[0, 1, 2]), pool=3).load(0)
    for image, row in zip(x.astype(float), samples.train.x, strict=True):
        squares = [image[:3, :3], image[:3, 3:], image[3:, :3], image[3:, 3:]]
        assert row.tolist() == pytest.approx([square.mean() / 127.5 - 1 for square in squares], abs=1e-6)


def test_pooling_keeps_colours_apart() -> None:
    x = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    x[..., 1] = 255
    samples = Files(source=npz(x_train=x, y_train=[0, 1], x_test=x, y_test=[0, 1]), pool=2).load(0)
    assert samples.train.x.tolist() == [[-1.0, 1.0, -1.0] * 4] * 2


def test_limits_draw_samples_with_their_labels() -> None:
    x = np.arange(200, dtype=np.uint8)[:, None]
    source = npz(x_train=x, y_train=np.arange(200), x_test=x, y_test=np.arange(200))
    samples = Files(source=source, limit=20, test_limit=10).load(0)
    assert samples.classes == 200 and len(samples.train.y) == 20 and len(samples.test.y) == 10
    for part in (samples.train, samples.test):
        assert ((part.x[:, 0] + 1) * 127.5).round().long().tolist() == part.y.tolist()
    assert samples.train.y.unique().numel() == 20 and int(samples.train.y.max()) > 100  # not the first ones
    assert torch.equal(Files(source=source, limit=20).load(5).train.y, samples.train.y)
    assert not torch.equal(Files(source=source, limit=20, split_seed=1).load(0).train.y, samples.train.y)
    assert len(Files(source=source, limit=10_000).load(0).train.y) == 200


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), shares=st.lists(st.floats(0, 1), min_size=4, max_size=40),
    pool=st.sampled_from([1, 2]),
)  # fmt: skip
def test_whatever_lies_in_the_range_is_bounded(low: float, width: float, shares: list[float], pool: int) -> None:
    high = low + width
    if not np.float32(low) < np.float32(high):
        return
    shares = shares[: len(shares) // 4 * 4]
    values = np.clip(low + np.array([*shares, 0, 0, 1, 1]) * width, low, high).reshape(-1, 2, 2)
    task = Files(source=NpzFile(path="x"), low=low, high=high, pool=pool)
    x = task._inputs(values, Path("x"))
    assert float(x.abs().max()) <= 1.0
    if pool == 1:
        assert x[-1].tolist() == [-1, -1, 1, 1]


def test_files_are_named_in_a_run_file() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Run:
        task: Files | Parity

    write_idx()
    source = {"kind": "idx"} | {name: name for name in NAMES}
    task = config.from_mapping({"task": {"kind": "files", "source": source, "pool": 2}}, Run).value.task
    assert task.load(0).train.x.shape == (6, 4)
    wrong = {"task": {"kind": "files", "source": {"kind": "npz", "path": "a", "test": 2}, "pool": 0}}
    with pytest.raises(ConfigError, match=r"task\.source\.test: test must lie between 0 and 1") as caught:
        config.from_mapping(wrong, Run)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0}, {"pool": 0}, {"limit": 0}, {"test_limit": 0}, {"split_seed": -1}, {"classes": 1},
        {"classes": 1001}, {"low": 0.0}, {"high": 1.0}, {"low": 1.0, "high": 1.0}, {"low": 0.0, "high": float("nan")},
        {"low": 0.0, "high": float("inf")},
    ],
)  # fmt: skip
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Files(source=NpzFile(path="x"), **wrong)


# -- files that are wrong ----------------------------------------------------------------------------------------------

HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 2)}"
NPZ_HEADERS: dict[str, tuple[bytes, str]] = {
    "huge": (member(HEADER.replace("(6, 2)", "(1000000000, 1000000000)")), "at most 1024 MiB"),
    "negative": (member(HEADER.replace("(6, 2)", "(-6, 2)")), "sizes of at least 0"),
    "short": (member(HEADER, b"\0" * 11), "together 12 bytes, it ends after 11"),
    "long": (member(HEADER, b"\0" * 13), "it goes on after that"),
    "pickle": (member(HEADER.replace("|u1", "|O"), b"cos\nsystem\n"), "array of numbers, got object"),
    "text": (member(HEADER.replace("|u1", "<U9")), "array of numbers, got <U9"),
    "huge text": (member(HEADER.replace("|u1", "<U1000000000")), "damaged"),
    "complex": (member(HEADER.replace("|u1", "<c8")), "array of numbers"),
    "nested": (member("(" * 5000), "damaged"),
    "call": (member("__import__('os').mkdir('broken')"), "damaged"),
    "long integer": (member(HEADER.replace("6", "6" * 5000)), "damaged"),
    "many axes": (member(HEADER.replace("(6, 2)", str((1,) * 99)), b"\0"), "damaged"),
    "long header": (member(HEADER + " " * 20000, b"", (2, 0)), "damaged"),
    "version": (member(HEADER, b"", (3, 0)), "format 1.0 or 2.0, got 3.0"),
    "magic": (b"\x80\x04}q\0.", "damaged"),
    "empty": (b"", "damaged"),
}


@pytest.mark.parametrize("case", NPZ_HEADERS)
def test_hostile_arrays_of_npz(case: str, here: Path) -> None:
    data, problem = NPZ_HEADERS[case]
    fine = io.BytesIO()
    np.save(fine, np.zeros(6, dtype=np.uint8))
    refused(Files(source=zipped(x=data, y=fine.getvalue())), "data.npz", problem)
    assert not (here / "broken").exists()


IDX_FILES: dict[str, tuple[dict[str, bytes], str, str]] = {
    "empty": ({"train_images": b""}, "train_images", "it begins with nothing"),
    "magic": ({"train_images": b"\x89PNG\r\n\x1a\n"}, "train_images", "it begins with 89 50 4e 47"),
    "type": ({"train_images": b"\0\0\x0a\3" + b"\0" * 12}, "train_images", "expected an IDX file"),
    "axes": ({"train_images": b"\0\0\x08\xff" + b"\0" * 2000}, "train_images", "1 to 4 axes"),
    "sizes": ({"train_images": b"\0\0\x08\3\0\0\0\6\0\0"}, "train_images", "with 3 sizes, it ends after 6 bytes"),
    "short": ({"train_images": idx(images(6))[:-1]}, "train_images", "together 96 bytes, it ends after 95"),
    "long": ({"test_images": idx(images(2)) + b"\0"}, "test_images", "it goes on after that"),
    "huge": ({"train_images": b"\0\0\x08\4" + b"\xff" * 16}, "train_images", "at most 1024 MiB, it declares"),
    "none": ({"train_images": idx(np.zeros((0, 4, 4)))}, "train_images", "at least one training and one test sample"),
    "no pixels": ({"train_images": idx(np.zeros((6, 0, 4)))}, "train_images", "at least one value each"),
    "flat": ({"train_images": idx(np.zeros(6))}, "train_images", "at least one value each"),
    "counts": ({"train_labels": idx([0, 1, 2])}, "train_labels", "a label for each of 6 samples, got 3"),
    "swapped": ({"train_labels": idx(images(6))}, "train_labels", "whole class number"),
    "real labels": ({"test_labels": idx([0.5, 1.0], "f4")}, "test_labels", "whole class number"),
    "negative": ({"test_labels": idx([-1, 0], "i1")}, "test_labels", "between 0 and 999, got -1 to 0"),
    "many": ({"test_labels": idx([2**31 - 1, 0], "i4")}, "test_labels", "between 0 and 999"),
    "sides": ({"test_images": idx(images(2, 5))}, "test_images", r"one shape, got \[4, 4\] and \[5, 5\]"),
    "no range": ({"train_images": idx(images(6), "f4")}, "train_images", "low and high"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", IDX_FILES)
def test_wrong_idx_files(case: str, packed: bool) -> None:
    changes, where, problem = IDX_FILES[case]
    refused(Files(source=write_idx(packed, **changes)), where, problem)


def test_damaged_gzip() -> None:
    source = write_idx(packed=True)
    whole = Path("train_images").read_bytes()
    for damaged in (whole[:-9], whole[:-1], whole[:30], whole[:2], whole[:15] + b"\xff" * 9 + whole[24:]):
        Path("train_images").write_bytes(damaged)
        refused(Files(source=source), "train_images", "expected an (IDX file|array of at most)")


def no_file() -> NpzFile:
    return NpzFile(path="absent")


def folder() -> NpzFile:
    Path("data.npz").mkdir()
    return NpzFile(path="data.npz")


def pipe() -> NpzFile:
    os.mkfifo("data.npz")
    return NpzFile(path="data.npz")


def not_zip() -> NpzFile:
    Path("data.npz").write_bytes(b"PK\3\4 or so")
    return NpzFile(path="data.npz")


def bare_npy() -> NpzFile:
    with Path("data.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    return NpzFile(path="data.npz")


def flipped_bit() -> NpzFile:
    np.savez("data.npz", x=np.zeros((6, 2), dtype=np.uint8), y=np.zeros(6, dtype=np.uint8))
    data = bytearray(Path("data.npz").read_bytes())
    data[data.index(b"\n", data.index(b"(6, 2)")) + 3] ^= 1  # a pixel; only the checksum knows
    Path("data.npz").write_bytes(data)
    return NpzFile(path="data.npz")


NPZ_FILES: dict[str, tuple[Callable[[], NpzFile], str]] = {
    "absent": (no_file, "there is no file"),
    "folder": (folder, "no regular file"),
    "pipe": (pipe, "no regular file"),
    "not a zip": (not_zip, "expected an npz file, it is damaged"),
    "npy": (bare_npy, "expected an npz file, it is damaged"),
    "bit": (flipped_bit, "Bad CRC-32"),
    "names": (lambda: npz(images=images(2)), "x_train, y_train, x_test, y_test or x, y, it holds images"),
    "missing": (lambda: npz(x=images(2)), "it holds x"),
    "too few": (lambda: npz(x=images(2), y=[0, 1]), "at least one training and one test sample"),
    "counts": (lambda: npz(x=images(6), y=[0, 1]), "a label for each of 6 samples, got 2"),
    "objects": (lambda: npz(x=images(2), y=np.array([{}, []], dtype=object)), "array of numbers, got object"),
    "scalar x": (lambda: npz(x=np.float64(1), y=[0]), "at least one value each"),
    "scalar y": (lambda: npz(x=images(6), y=np.int64(1)), "whole class number"),
    "one hot": (lambda: npz(x=images(6), y=np.eye(6, dtype=int)), "whole class number"),
    "not a number": (lambda: whole_npz(x_test=np.full((2, 4, 4), np.nan)), "low and high"),
}


@pytest.mark.parametrize("case", NPZ_FILES)
def test_wrong_npz_files(case: str) -> None:
    make, problem = NPZ_FILES[case]
    source = make()
    refused(Files(source=source), source.path, problem)


@pytest.mark.parametrize("value", [1.1, -0.1, np.nan, np.inf])
def test_values_outside_the_range_are_never_clipped(value: float) -> None:
    x = np.full((6, 2), 0.5)
    x[3, 1] = value
    source = npz(x_train=x, y_train=[0, 1] * 3, x_test=np.zeros((2, 2)), y_test=[0, 1])
    refused(Files(source=source, low=0.0, high=1.0), "data.npz", "expected values between 0 and 1, got")


def test_settings_that_do_not_fit_the_files() -> None:
    source = write_idx()
    refused(Files(source=source, pool=3), "train_images", "that pool = 3 divides, got 4 x 4")
    refused(Files(source=source, classes=2), "train_labels", "between 0 and 1, got 0 to 2")
    assert Files(source=source, classes=7).load(0).classes == 7
    rows = npz(x=np.zeros((10, 16), dtype=np.uint8), y=[0, 1] * 5)
    refused(Files(source=rows, pool=2), "data.npz", "rows and columns")
    reals = npz(x=np.full((10, 2), 1e8), y=[0, 1] * 5)
    refused(Files(source=reals, low=1e8, high=1e8 + 1), "data.npz", "further apart")


def test_foreign_names_are_shown_escaped() -> None:
    zipped(**{"\x1b[31m": b""})
    with pytest.raises(ConfigError) as caught:
        Files(source=NpzFile(path="data.npz")).load(0)
    assert "\x1b" not in str(caught.value)


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_a_zip_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, peak: Callable[[], int]) -> None:
    monkeypatch.setattr(arrays, "MOST_BYTES", 1 << 20)
    source = zipped(x=member(HEADER, bytes(1 << 25)), y=b"")
    Path("packed").write_bytes(gzip.compress(idx(images(1))[:16] + bytes(1 << 25), 1))
    declared = b"\0\0\x08\1" + struct.pack(">I", 1 << 21)
    Path("declared").write_bytes(gzip.compress(declared + bytes(1 << 21), 1))
    assert Path("packed").stat().st_size < 1 << 18
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    refused(Files(source=source), "data.npz", "it goes on after that")
    for name, problem in (("packed", "it goes on after that"), ("declared", "at most 1 MiB")):
        with pytest.raises(ConfigError, match=problem):
            read_idx(Path(name))
    assert peak() - before < 4 << 20


@settings(
    deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.none() | st.floats(0, 1),
    which=st.sampled_from(["idx", "gz", "npz"]),
)  # fmt: skip
def test_a_changed_byte_or_a_cut_gives_data_or_a_plain_error(
    place: float, value: int, cut: float | None, which: str
) -> None:
    if which == "npz":
        name, source = "data.npz", npz(x=images(6), y=np.arange(6, dtype=np.uint8))
    else:
        name, source = "train_images", write_idx(which == "gz")
    data = bytearray(Path(name).read_bytes())
    data[int(place * len(data))] = value
    Path(name).write_bytes(data if cut is None else data[: int(cut * len(data))])
    try:
        samples = Files(source=source).load(0)
    except ConfigError as error:
        assert name in str(error)
    else:
        assert float(samples.train.x.abs().max()) <= 1.0


def refused(task: Files, where: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        task.load(0)
    assert caught.value.exit_code == 2 and [found.where for found in caught.value.problems] == [where]
