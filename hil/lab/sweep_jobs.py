"""Which kind of work a run file describes: a deployment when it has the key ``deployment``, else a training run."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hil.errors import CheckpointError, CheckpointMismatch, ConfigError, StorageError, UsageError
from hil.lab.threads import one_thread

DEPLOYMENT = "deployment"


def is_deployment(content: Mapping[str, Any]) -> bool:
    """Whether the content of a run file describes a deployment."""
    return DEPLOYMENT in content


def read_plan(run_file: Path, content: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Run file and board file, read and checked; ``run`` and ``board`` are ``Loaded``, as in ``build.Plan``.

    Args:
        run_file: the run file.
        content: what it holds; it says which kind it is.
        overrides: ``key.path=value`` settings that take the place of the file's.

    Raises:
        ConfigError: run file or board file cannot be used.
    """
    if is_deployment(content):
        return _deploying().read_plan(run_file, overrides)
    from hil.lab.runs import read_plan as read_training

    return read_training(run_file, overrides)


def carry_out(content: Mapping[str, Any], folder: Path, stop: Any) -> dict[str, Any]:
    """Does what a run file describes, or goes on with it; gives its result as plain JSON values.

    Args:
        content: content of the run file.
        folder: folder of the run; one whose training was broken off is gone on with.
        stop: the stop token.
    """
    from hil.lab import runs

    deployment = is_deployment(content)
    if not deployment and (folder / "run.yaml").is_file() and (folder / "run.db").is_file():
        try:
            result = runs.resume(folder, stop=stop)
            if result.exit_code != CheckpointError.exit_code:
                return result.as_dict()
        except (CheckpointError, CheckpointMismatch, ConfigError):
            pass  # its process was killed while it made the folder
    remove(folder)  # on a simulator nothing is lost
    if not deployment:
        return runs.run(content, out=folder, stop=stop).as_dict()
    with one_thread():
        return _deploying().deploy(content, out=folder, stop=stop).as_dict()


def remove(folder: Path) -> None:
    """Removes a run folder; a symbolic link in its place is refused."""
    if folder.is_symlink():
        raise UsageError(f"{folder} is a symbolic link; a sweep folder holds its own runs")
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(str(folder), str(error)) from error


def _deploying() -> Any:
    """The module that deploys networks.

    Raises:
        UsageError: this version has none.
    """
    try:
        return importlib.import_module("hil.lab.deploying")
    except ModuleNotFoundError as error:
        raise UsageError("this version cannot deploy networks yet; take a run file without `deployment`") from error
