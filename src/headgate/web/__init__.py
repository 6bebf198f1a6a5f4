"""HTTP: header fields, and (in modules of their own) the frameworks."""
