"""What a command says when it cannot do what was asked."""


class CommandError(Exception):
    """One sentence for the user; the exit status is 1."""
