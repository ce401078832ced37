"""What must be true of every history: one file a law. `TABLE` of `table` lists them; the checker asks each."""
