"""The reaper judges whether a Model should be running now."""
