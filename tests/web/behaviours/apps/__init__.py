"""The app of `description.py`, once for each framework, in the way of the framework."""
