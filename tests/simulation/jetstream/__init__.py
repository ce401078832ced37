"""A NATS server with JetStream in virtual time, for the real reader and the real writer of the state stream."""
