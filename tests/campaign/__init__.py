"""The campaign: faults at random points of running streams, and what has to hold after each.

Not for single behaviours (`tests/acceptance`). `docs/reliability.md` tells what is done and found.
"""
