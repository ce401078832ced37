"""The error that ends a command."""


class CommandError(Exception):
    """A command failed; the message is for the user, the exit status is 1."""
