"""The one VISA resource manager of the process.

Closing a resource manager closes the resources of everybody who uses the same library, so links never do; PyVISA closes
it at the end of the process.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvisa import ResourceManager


@functools.cache
def resources(backend: str) -> ResourceManager:
    """The manager of a VISA library, opened when it is first asked for.

    Args:
        backend: the library, as PyVISA spells it, e.g. ``@py``.

    Raises:
        ValueError: there is no such library.
        OSError: it cannot be loaded.
    """
    import pyvisa

    return pyvisa.ResourceManager(backend)


def listed(backend: str = "@py") -> tuple[str, ...]:
    """Names of the VISA resources that the system tells of; nothing is opened, and none are given without a library."""
    import warnings

    try:
        with warnings.catch_warnings():  # PyVISA-py advises packages for finding more, on each call
            warnings.simplefilter("ignore")
            return tuple(resources(backend).list_resources())
    except (ValueError, OSError):
        return ()
