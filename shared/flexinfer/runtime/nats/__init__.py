"""NATS: connection, consumers, the state stream as its readers and its one writer see it."""

from flexinfer.runtime.nats import without_extras as _first  # noqa: F401 -- before all that imports nats-py
