"""How pulses change cells, one law a file; what laws share is in ``cell``, ``relaxing`` and ``walking``."""
