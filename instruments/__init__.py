"""Bytes on a wire: links, drivers and the virtual board. The first drivers come with the real links."""
