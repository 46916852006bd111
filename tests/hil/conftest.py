"""What tests of the ground floor share."""

from __future__ import annotations

from typing import Any

import pytest
from lowered_operations import MINIMUM, SPREAD

from hil.lowering import Lowering


@pytest.fixture
def twins(spec_of, quiet_board):
    """``twins(ops, **spec)``: the same chip on a board that knows everything, and on a lesser one through Lowering."""

    def build(ops: tuple[str, ...] = MINIMUM, lesser: dict[str, Any] | None = None, **spec: Any):
        whole = quiet_board(spec_of(**spec), **SPREAD)
        changed = {key: {**spec.get(key, {}), **value} for key, value in (lesser or {}).items()}
        return whole, Lowering(quiet_board(spec_of(ops=ops, **{**spec, **changed}), **SPREAD))

    return build
