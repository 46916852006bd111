"""Fits device models to measurements: arrays in, tables out."""
