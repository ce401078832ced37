"""Faults on a running instance."""
