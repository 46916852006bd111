"""Studies of the pure core over many replicas; each gives a ``Study``, ready to be shown beside the papers."""
