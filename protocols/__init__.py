"""The training algorithms.

Training composes three small parts: a gradient ``source``, a chain of ``transforms`` and an update ``rule``. Their
numerical cores are pure functions in ``protocols.core``. Nothing here knows of files, clocks or instruments.
"""
