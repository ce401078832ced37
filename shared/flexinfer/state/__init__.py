"""The observed state of the cluster, how an event is applied to it, and the actions that decisions yield.

Pure.
"""
