"""Tests of what HTTP carries."""
