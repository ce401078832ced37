"""The arbiter decides whose turn it is in a shared group."""
