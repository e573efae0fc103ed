"""Descriptions of known programs: what the pool adds to their commands, and asks them."""
