"""The sharing protocol as models, checked exhaustively with Spin; the runs stand in runs.py."""
