"""Real engines in the user's cache folder of programs, each by its version, installed or built once: `python -m tests.engines.installed`."""
