"""Bytes on a wire: links, wire protocols, drivers, and the shell of the virtual board."""
