"""Benchmarks: each begins with nothing known, whatever this account has run before."""

import os

os.environ["SHAPER_HISTORY"] = "off"
