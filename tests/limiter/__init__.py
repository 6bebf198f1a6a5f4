"""Tests of what users call: `Limiter` and `AsyncLimiter`, over the memory store and over a real Valkey."""
