"""Tests of what travels in HTTP."""
