"""Families of networks.

Each is one module with `NAMES`, the names to suggest, and `backbone(name)`, which returns None
for a name that is not its own and else a function from an image tensor to its endpoints up to
"features". `layers` holds what the families share.
"""
