"""The command line: one small module a command. Every error is one clear sentence."""
