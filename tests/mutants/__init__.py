"""Planted faults: whether the simulation and the unit tests notice when a rule of the product is missing."""
