"""The plans, stepped by hand: what they ask, what they make of the replies, and how they get along with each other."""
