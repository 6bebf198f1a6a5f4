"""What to ask a store or a limiter's surroundings, and how to read the reply, as generators: no I/O, no clock, no
threads.
"""
