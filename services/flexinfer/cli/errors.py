"""The errors that end a command."""


class CommandError(Exception):
    """A command failed; the message is for the user, the exit status is 1."""


class UnreachableError(CommandError):
    """The proxy or NATS does not answer; `address` is its host:port."""

    def __init__(self, message: str, address: str) -> None:
        super().__init__(message)
        self.address = address
