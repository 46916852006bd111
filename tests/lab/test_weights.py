"""Weights that a user brings: every format gives the same network, and what is wrong is named."""

from __future__ import annotations

import os
import pickle
import re
import runpy
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from hil.errors import ConfigError
from hil.lab import weights
from hil.lab.tasks import Files, IdxFiles
from hil.lab.weights import FileWeights, load_weights

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/deploy-your-own-weights.md"
HERE = Path("w")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 3))


def as_npz(tensors: dict[str, Tensor]) -> None:
    with HERE.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in tensors.items()})


def as_safetensors(tensors: dict[str, Tensor]) -> None:
    save_file(tensors, HERE)


def as_torch(tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, HERE)


WRITERS: list[Any] = [as_npz, as_safetensors, as_torch]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_network_back(write: Callable[[dict[str, Tensor]], None]) -> None:
    model = network()
    write({name: value.detach() for name, value in model.state_dict().items()})
    found = FileWeights(path="w").load()
    x = torch.rand(6, 5)
    assert [type(m) for m in found] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear, nn.Identity]
    assert torch.equal(found(x), model(x))


def test_names_order_and_activations() -> None:
    layers = [torch.rand(3, 3) for _ in range(11)]  # of one size: only the numbers tell the order, and 10 follows 9
    as_safetensors({f"net.layer{n}_weight": w for n, w in enumerate(layers)})
    found = load_weights("w", activation="relu", output="sigmoid")
    linears = [m for m in found if isinstance(m, nn.Linear)]
    assert all(torch.equal(m.weight, w) for m, w in zip(linears, layers, strict=True))
    assert all(not bool(m.bias.any()) for m in linears)
    assert isinstance(found[1], nn.ReLU) and isinstance(found[-1], nn.Sigmoid)


def test_without_numbers_sizes_tell_the_order() -> None:
    parts = {"out.weight": torch.rand(2, 4), "in.weight": torch.rand(3, 5), "mid.weight": torch.rand(4, 3)}
    as_npz({**parts, "out.bias": torch.rand(2)})
    found = [m for m in load_weights("w") if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in found] == [(3, 5), (4, 3), (2, 4)]
    as_npz({"a.weight": torch.rand(3, 3), "b.weight": torch.rand(3, 3)})
    refused("more than one order")
    as_npz({"a.weight": torch.rand(3, 4), "b.weight": torch.rand(3, 4)})
    refused("no order makes them a chain")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8])
def test_other_types_become_float32(dtype: torch.dtype) -> None:
    as_safetensors({"0.weight": torch.tensor([[1, -1, 0]], dtype=dtype)})
    linear = load_weights("w")[0]
    assert isinstance(linear, nn.Linear) and linear.weight.dtype == torch.float32
    assert linear.weight.tolist() == [[1.0, -1.0, 0.0]]


def some(**changes: Tensor | None) -> dict[str, Tensor]:
    tensors = {name: value.detach() for name, value in network().state_dict().items()}
    named = {name.replace("_", "."): value for name, value in changes.items()}
    return {name: value for name, value in {**tensors, **named}.items() if value is not None}


FULL = torch.full((7,), torch.inf)
TENSORS: dict[str, tuple[dict[str, Tensor], str]] = {
    "convolution": ({"0.weight": torch.rand(4, 3, 3, 3)}, r"\[4, 3, 3, 3\]; only linear layers"),
    "normalisation": (some(**{"1.running.mean": torch.rand(7)}), "1.running.mean: expected names that end in weight"),
    "scale of a normalisation": ({"0.weight": torch.rand(3)}, r"expected \[n_out, n_in\], got the shape \[3\]"),
    "chain": (some(**{"2.weight": torch.rand(4, 6)}), r"'0' makes 7 outputs and '2' takes 6 inputs"),
    "transposed": (some(**{"0.weight": torch.rand(5, 7), "0.bias": None}), r"weights are \[n_out, n_in\]"),
    "bias": (some(**{"2.bias": torch.rand(5)}), "2 bias: expected one number for each of the 4 outputs"),
    "lone bias": ({"0.bias": torch.rand(5)}, "there is no weight"),
    "infinite": (some(**{"0.bias": FULL}), "0.bias: expected finite numbers"),
    "not a number": (some(**{"4.weight": torch.full((3, 4), torch.nan)}), "4.weight: expected finite numbers"),
    "too large": (some(**{"0.bias": torch.full((7,), 1e300, dtype=torch.float64)}), "0.bias: expected finite numbers"),
    "empty": ({"0.weight": torch.zeros(0, 3)}, r"the shape \[0, 3\]"),
    "many": ({f"{n}.weight": torch.eye(2) for n in range(65)}, "expected 1 to 64"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_no_chain_of_layers(case: str) -> None:
    tensors, problem = TENSORS[case]
    as_npz(tensors)
    refused("65" if case == "many" else problem)
    as_safetensors(tensors)
    refused(problem)


def test_a_state_dict_holds_tensors_alone() -> None:
    for content, problem in (
        (network(), "expected a state dict of tensors alone"),
        ({"0.weight": [[1.0]]}, "0.weight: expected a tensor, got list"),
        ([torch.eye(2)], "expected a state dict, got a list"),
        ({}, "holds 0"),
        ({"0.weight": torch.eye(2) + 1j}, "dense tensor of real numbers"),
        ({"0.weight": torch.eye(2).to_sparse()}, "dense tensor of real numbers"),
    ):
        torch.save(content, HERE)
        refused(problem)


class Harm:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def test_no_code_is_run() -> None:
    torch.save({"0.weight": Harm()}, HERE)
    refused("state dict of tensors alone")
    with HERE.open("wb") as file:
        np.savez(file, **{"0.weight": np.array([Harm()], dtype=object)})
    refused("array of numbers, got object")
    HERE.write_bytes(pickle.dumps(Harm()))
    refused("it begins with")
    assert not Path("harmed").exists()


def test_a_view_that_repeats_its_values_is_counted_in_full() -> None:
    torch.save({"0.weight": torch.zeros(1, 1).expand(1 << 15, 1 << 15)}, HERE)
    refused("million numbers")


def test_sizes_are_checked_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    HERE.write_bytes(b"PK\3\4")
    os.truncate(HERE, (1 << 28) + 1)
    refused("more than the 256 MiB")
    HERE.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    refused("its header claims")
    monkeypatch.setattr(weights, "MOST_BYTES", 1 << 16)
    with zipfile.ZipFile(HERE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.weight.npy", bytes(1 << 20))
    refused("it declares 1048576 bytes")
    with zipfile.ZipFile(HERE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 10))
    refused("its parts are compressed")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: None, "there is no file"),
        (HERE.mkdir, "there is no regular file"),
        (lambda: os.mkfifo(HERE), "there is no regular file"),
        (lambda: HERE.symlink_to("absent"), "is a link"),
        (lambda: HERE.write_bytes(b""), "it begins with nothing"),
        (lambda: HERE.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "it begins with 89 48 44 46"),
        (lambda: HERE.write_bytes(struct.pack("<Q", 4) + b"{{{{" + bytes(9)), "expected a safetensors file"),
        (lambda: HERE.write_bytes(b"PK\3\4 or so"), "damaged"),
    ],
)
def test_files_of_another_kind(make: Callable[[], object], problem: str) -> None:
    make()
    refused(problem)


@settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    write=st.sampled_from(WRITERS), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255),
    cut=st.none() | st.floats(0, 1),
)  # fmt: skip
def test_a_changed_byte_or_a_cut_gives_a_network_or_a_plain_error(
    write: Callable[[dict[str, Tensor]], None], place: float, value: int, cut: float | None
) -> None:
    write(some())
    data = bytearray(HERE.read_bytes())
    data[int(place * len(data))] = value
    HERE.write_bytes(data if cut is None else data[: int(cut * len(data))])
    try:
        found = load_weights(HERE)
    except ConfigError as error:
        assert [problem.where for problem in error.problems] == ["w"]
    else:
        assert all(bool(torch.isfinite(p).all()) for p in found.parameters())


def test_images_of_784_pixels_fit_a_784_100_10_network() -> None:
    source = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 5)):
        images, labels = source.integers(0, 256, (count, 28, 28), dtype=np.uint8), bytes(n % 10 for n in range(count))
        Path(f"{part}_images").write_bytes(b"\0\0\x08\3" + struct.pack(">III", count, 28, 28) + images.tobytes())
        Path(f"{part}_labels").write_bytes(b"\0\0\x08\1" + struct.pack(">I", count) + labels)
    names = {name: name for name in ("train_images", "train_labels", "test_images", "test_labels")}
    samples = Files(source=IdxFiles(**names), classes=10).load(0)
    with HERE.open("wb") as file:
        np.savez(file, **{"fc1.weight": source.normal(size=(100, 784)), "fc1.bias": source.normal(size=100),
                          "fc2.weight": source.normal(size=(10, 100))})  # fmt: skip
    out = load_weights(HERE)(samples.test.x)
    assert out.shape == (5, 10) and bool(torch.isfinite(out).all())


def test_the_page_can_be_followed(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    Path("page.py").write_text(code, encoding="utf-8")
    shutil.copytree(ROOT / "config/boards", "config/boards")
    torch.manual_seed(0)
    found = runpy.run_path("page.py")
    assert len(found["ternary"][0].weight.abs().unique()) == 2
    assert float((found["measured"] - found["expected"]).abs().max()) < 0.05 * float(found["expected"].abs().max())
    assert float(capsys.readouterr().out.split()[0]) > 94


def refused(problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load_weights(HERE)
    assert caught.value.exit_code == 2 and [found.where for found in caught.value.problems] == ["w"]
