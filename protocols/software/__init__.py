"""Training in software of networks that are to be put on a chip, at the precision that its cells can hold."""
