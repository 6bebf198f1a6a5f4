"""One suite of HTTP behaviours for every framework, against real servers.

`description.py` says which routes an app has and what they meet; each module of `apps/` builds them in the way of its
framework; `behaviours.py` and `bypasses.py` ask over HTTP. `python -m tests.web.behaviours` prints the table of it all.
"""
