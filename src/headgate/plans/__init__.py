"""Plans: generators that yield what to ask of a store or of a limiter's surroundings, and make something of the reply.
No I/O, no clock, no threads.
"""
