"""The placer: assigns each Model a node and devices, or says for every node why it cannot run the Model."""
