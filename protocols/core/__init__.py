"""Pure functions: the numerical cores of the protocols, with leading replica axes."""
