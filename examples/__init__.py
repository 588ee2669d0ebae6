"""Runnable examples; each folder is a package: `python -m examples.NAME`."""
