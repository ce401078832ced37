"""The placer: assigns each Model a node, and devices of it, or says for every node why it cannot run the Model."""
