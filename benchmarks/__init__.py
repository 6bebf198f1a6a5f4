"""Headgate beside its peers: what each costs, and what each lets through. `make bench` runs the whole of it."""
