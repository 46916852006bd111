"""Trained weights out of files that a user brings: safetensors, npz, or a state dict of torch. Nothing is trusted.

What a file is, is told by its first bytes, not by its name. Files hold the weights and biases of linear layers and
nothing else; no code of theirs is ever run. Every problem is a ``ConfigError`` with the path, what was seen and what
was expected.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from hil.deployment import MODULES
from hil.lab.layerchain import chained
from hil.lab.plain import printable
from hil.lab.tasks.arrays import npz_names, read_npz, unusable

MOST_BYTES = 1 << 28
"""Bytes that a file and the weights in it may take; 64 million weights of float32."""
MOST_TENSORS = 64
_MOST_HEADER = 1 << 20

ActivationName = Literal["tanh", "sigmoid", "relu", "identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWeights:
    """Weights out of a file.

    Args:
        path: path, from the current folder.
        activation: after each hidden layer; files do not tell it.
        output: after the last layer.
    """

    kind: Literal["file"] = "file"
    path: str
    activation: ActivationName = "tanh"
    output: ActivationName = "identity"

    def load(self) -> nn.Sequential:
        """See ``load_weights``."""
        return load_weights(self.path, activation=self.activation, output=self.output)


def load_weights(
    path: str | Path, *, activation: ActivationName = "tanh", output: ActivationName = "identity"
) -> nn.Sequential:
    """Reads the linear layers of a network, in order.

    Args:
        path: a safetensors file, an npz file, or a state dict that ``torch.save`` wrote; names end in ``weight``
            [n_out, n_in] or ``bias`` [n_out]. Numbers in the names give the order of the layers, or else their sizes.
        activation: after each hidden layer.
        output: after the last layer.

    Returns:
        Linear layers in float32, each followed by its activation.

    Raises:
        ConfigError: the file cannot be used, or does not hold one chain of linear layers of finite numbers.
    """
    path = Path(path)
    layers = chained(path, _checked(path, _read(path)))
    modules: list[nn.Module] = []
    for number, (weight, bias) in enumerate(layers):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.zero_() if bias is None else linear.bias.copy_(bias)
        modules += [linear, MODULES[output if number == len(layers) - 1 else activation]()]
    return nn.Sequential(*modules)


def _read(path: Path) -> Mapping[str, Tensor]:
    """Reads all tensors of a file by name."""
    expected = "a file of weights (safetensors, npz, or a torch state dict)"
    try:
        if path.is_symlink():
            raise unusable(path, "is a link; name the file itself, so that it is known which weights are used")
        if not path.is_file():
            there = "no regular file" if path.exists() else "no file"
            raise unusable(path, f"expected {expected}, there is {there}")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise unusable(path, f"has {size} bytes, more than the {MOST_BYTES >> 20} MiB that are read")
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise unusable(path, f"expected {expected}, it cannot be read: {error.strerror or error}") from error
    if head[:4] == b"PK\x03\x04":
        names = npz_names(path, MOST_BYTES)
        return _torch(path) if any(name.rsplit("/", 1)[-1] == "data.pkl" for name in names) else _npz(path, names)
    if head[8:9] == b"{":
        return _safetensors(path, size)
    raise unusable(path, f"expected {expected}, it begins with {head[:8].hex(' ') or 'nothing'}")


def _npz(path: Path, names: list[str]) -> Mapping[str, Tensor]:
    if not 1 <= len(names) <= MOST_TENSORS:
        raise unusable(path, f"expected 1 to {MOST_TENSORS} arrays, it holds {len(names)}")
    arrays = read_npz(path, [name.removesuffix(".npy") for name in names])
    with np.errstate(over="ignore"):  # numbers too large become infinite, and are refused with their name
        return {name: torch.as_tensor(array.astype(np.float32)) for name, array in arrays.items()}


def _safetensors(path: Path, size: int) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_MOST_HEADER, size):
            raise unusable(path, f"expected a safetensors file, its header claims {length} bytes")
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:
            names = list(file.keys())
            if not 1 <= len(names) <= MOST_TENSORS:
                raise unusable(path, f"expected 1 to {MOST_TENSORS} tensors, it holds {len(names)}")
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, json.JSONDecodeError) as error:
        raise unusable(path, f"expected a safetensors file, it is damaged: {printable(str(error))}") from error


def _torch(path: Path) -> Mapping[str, Tensor]:
    """Reads a state dict; the loader takes tensors and plain containers only and runs nothing."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise unusable(path, "expected a state dict as torch.save writes it, its parts are compressed")
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, EOFError, AttributeError) as error:
        text = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        problem = f"expected a state dict of tensors alone (torch.save(model.state_dict(), path)): {text}"
        raise unusable(path, problem) from error
    if not isinstance(found, Mapping):
        raise unusable(path, f"expected a state dict, got a {type(found).__name__}")
    entries = cast(Mapping[object, object], found)
    if not 1 <= len(entries) <= MOST_TENSORS:
        raise unusable(path, f"expected a state dict of 1 to {MOST_TENSORS} tensors, it holds {len(entries)}")
    tensors: dict[str, Tensor] = {}
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise unusable(path, f"{printable(str(name))}: expected a tensor, got {type(value).__name__}")
        tensors[name] = value
    return tensors


def _checked(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Brings tensors to float32; refuses what is none of numbers, too many, or not finite."""
    if sum(value.numel() for value in tensors.values()) > MOST_BYTES // 4:  # before any copy: strides may repeat values
        raise unusable(path, f"holds more than {MOST_BYTES >> 22} million numbers, more than are read")
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        shown = printable(name)
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.dtype == torch.bool:
            raise unusable(path, f"{shown}: expected a dense tensor of real numbers, got {value.layout} {value.dtype}")
        found[name] = value.detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(found[name]).all()):
            raise unusable(path, f"{shown}: expected finite numbers that fit float32, got some that are not")
    return found
