"""What rules would do to objects, found out without storing, sending or writing anything.

Part of the composition root: it gives rules the same archive that the gateway gives them, read
only, and in place of everything that acts something that writes down (rulings.md 14).
"""
