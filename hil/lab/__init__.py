"""The upper floor: everything around a run that touches files, people and the clock."""
