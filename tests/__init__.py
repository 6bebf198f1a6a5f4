"""The suite of headgate. A package, so that tests of different folders may share a file name, and helpers."""
