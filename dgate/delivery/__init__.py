"""Deliveries: what is owed to other nodes, when it is tried, and how it gets there.

Nothing is re-exported: commands that need only `destination` or `records` must not pay for the
dispatcher and what it works with.
"""
