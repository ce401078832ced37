"""The launcher: starts engines, asks whether they answer, stops them. It owns `Ready`, `endpoint` and `backend`."""
