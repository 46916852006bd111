"""Makes foreign text fit to be shown: cut, with everything escaped that a terminal might act on."""

from __future__ import annotations

MOST = 120
"""Characters of foreign text that a message shows."""


def shown(text: str | bytes | bytearray, most: int = MOST) -> str:
    """Foreign text or bytes as one line that is safe to print.

    Args:
        text: what an instrument, a file or a command line gave.
        most: characters or bytes kept; what is left out is said.
    """
    rest = len(text) - most
    kept = text[:most]
    letters = kept if isinstance(kept, str) else kept.decode("latin-1")
    # Latin-1 letters that came as bytes are escaped too: whether they are text is not known.
    plain = str.isprintable if isinstance(kept, str) else str.isascii
    line = "".join(
        char if plain(char) and char.isprintable() and char != "\\" else char.encode("unicode_escape").decode("ascii")
        for char in letters
    )
    return line if rest <= 0 else f"{line}... ({rest} more)"
