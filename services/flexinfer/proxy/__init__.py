"""The proxy: the OpenAI-compatible door, which holds requests while a Model wakes."""
