"""Random draws as functions of (root seed, stream, step).

A draw depends on nothing else, so a run that is resumed in the middle draws what an unbroken run would have drawn, and
two tensors of equal shape never get the same draw.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, stream: str, step: int) -> torch.Generator:
    """A generator for one stream at one step."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
