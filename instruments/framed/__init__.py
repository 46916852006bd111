"""The framed reference wire protocol and its driver."""
