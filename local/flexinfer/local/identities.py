"""Names that the parts of an instance share."""

NODE_NAME = "local"
"""The only node of an instance."""
