"""Tests of limited tasks."""
