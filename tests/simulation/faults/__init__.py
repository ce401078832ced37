"""What happens to the system from outside: one file a kind of fault. `table.FAULTS` lists them."""
