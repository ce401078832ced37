"""Histories of cards alone: the arbiter's own decisions in virtual time, with engines, telemetry and people as records."""
