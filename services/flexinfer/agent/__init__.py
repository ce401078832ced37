"""The agent: samples the devices of its node, publishes how much of their memory is free, and labels the Node."""
