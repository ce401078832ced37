"""The few controllers that the local API needs: each reacts to the store, none reads a clock or waits."""
