"""Tests on a real NVIDIA card: `make test-gpu`. They need its driver and Python packages alone, and no network."""
