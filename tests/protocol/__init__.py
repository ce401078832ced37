"""The sharing protocol as models, checked exhaustively with Spin; the runs are in runs.py."""
