"""All reactors on the in-memory API and bus, in virtual time: thousands of seeded histories with faults."""
