"""The arbiter grants the devices of a shared group to one Model at a time: it owns the condition Granted."""
