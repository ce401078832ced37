"""What services agree on: pure types and the functions on them (stdlib and msgspec only)."""
