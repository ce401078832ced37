"""Identities: the names by which the parts of an instance know each other."""

NODE_NAME = "local"
"""The only node of an instance."""
