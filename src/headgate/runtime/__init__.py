"""Living among threads, event loops, signals and forks: what any part of the house may need, and nothing of limits."""
