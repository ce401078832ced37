"""All controllers on an in-memory API and bus in virtual time: thousands of seeded histories with faults."""
