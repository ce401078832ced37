"""The proxy: an OpenAI-compatible gateway that queues requests during a cold start."""
