"""NATS: connection, consumers, the state stream as its readers and its one writer see it."""
