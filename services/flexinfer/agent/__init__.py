"""The agent samples the devices of its node, publishes their available memory, and labels the Node."""
