"""A sweep by the workers of a Dask cluster comes to what processes of this machine come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.lab import config
from hil.lab.cli_sweep import Progress
from hil.lab.sweep import sweep


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Dask are not ours
def test_two_workers_of_a_local_cluster(
    tmp_path: Path, xor: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed")
    import sys

    (tmp_path / "xor.yaml").write_text(config.dump(xor(steps=10)))
    plain = {"name": "cluster", "run": "xor.yaml", "grid": {"protocol.transforms.0.eta": [0.5, 1.0]}, "seeds": 2}
    (tmp_path / "s.yaml").write_text(config.dump(plain))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
    ) as cluster:
        address = cluster.scheduler_address
        far = sweep(tmp_path / "s.yaml", Progress(sys.stdout), out=tmp_path / "far", scheduler=address)
    near = sweep(tmp_path / "s.yaml", Progress(sys.stdout), out=tmp_path / "near")
    assert far.exit_code == near.exit_code == 0
    names = ("steps", "test_accuracy", "pulses", "lab_seconds")
    assert [[row.result[name] for name in names] for row in far.rows] == [
        [row.result[name] for name in names] for row in near.rows
    ]
    assert "4/4" in capsys.readouterr().out
