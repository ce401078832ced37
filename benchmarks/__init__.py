"""Benchmarks, each a ratio to a baseline of the same run. `make bench` runs all of them."""
