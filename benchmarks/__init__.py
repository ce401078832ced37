"""What we measure, always as a ratio against something in the same run. `make bench` runs all of it."""
