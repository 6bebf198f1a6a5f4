"""The configuration file: stores, limiters and rules from TOML, checked, and read again when it changes.

This package must not know a framework.
"""
