"""Replaying a trace of requests on one card in virtual time: what `flexinfer simulate` prints."""
