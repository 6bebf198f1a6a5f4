"""Tests of what goes wrong in the field: crowds, crashes, cancellations, outages. Real processes, real servers."""
