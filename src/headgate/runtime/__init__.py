"""Living among threads, event loops, signals and forks. Any part of the house may need it. It knows no limits."""
