"""Tests of limits in Django. Its settings are the process's: these tests share one project, and override them."""
