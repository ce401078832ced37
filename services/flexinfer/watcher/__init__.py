"""Kubernetes -> bus: the one service that watches, and that says whether a Model can be served at all."""
