"""The tests; `builders` is their vocabulary."""
