"""The reaper decides whether a Model should run now: it owns the condition Wanted."""
