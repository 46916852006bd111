"""Characterising a board: measurements over any backend that speaks the contract, from the lowest voltage up."""
