"""A group on a simulated card in a running instance: engines that load at once and stream, what is seen of a swap, and the card's history."""
