"""The configuration file: stores, limiters and rules from TOML, checked, and read again when it changes.

This package must not know a framework. What is imported here is light: a file's reader is loaded when a file is read.
"""

from __future__ import annotations

from headgate.config.loading import Config, load
from headgate.config.named import Acquiring, ConfiguredLimiter
from headgate.config.process import aclose, acquire, close, configure, configure_limiter, configure_store, get_limiter

__all__ = [
    "Acquiring",
    "Config",
    "ConfiguredLimiter",
    "aclose",
    "acquire",
    "close",
    "configure",
    "configure_limiter",
    "configure_store",
    "get_limiter",
    "load",
]
