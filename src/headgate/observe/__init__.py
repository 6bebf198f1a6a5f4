"""Metrics, traces and logs, on the observer protocol. Each module brings a library of its field, and none is imported
before it is asked for.
"""
