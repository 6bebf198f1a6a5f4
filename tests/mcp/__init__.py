"""Tests of MCP servers with limits."""
