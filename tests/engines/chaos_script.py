"""A run for the chaos tests: sums numbers over sources; prints the sum and the count, exactly known beforehand."""

from __future__ import annotations

import sys
import time
from typing import Any

import shaper

SOURCES = {f"s{number}": 2000 + 137 * number for number in range(12)}


def process(chunk: shaper.Chunk) -> dict[str, int]:
    """Sum what a chunk holds; slow enough to be killed at work."""
    time.sleep(0.01 + chunk.elements * 2e-5)
    total = sum(sum(range(span.start, span.stop)) for span in chunk.spans)
    return {"sum": total, "count": chunk.elements}


def merge(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    """Add two results."""
    return {key: a[key] + b[key] for key in a}


if __name__ == "__main__":
    run_dir, chunksize, engine = sys.argv[1:4]
    policy = shaper.policy.Fixed(int(chunksize), shaper.Resources(1, 200)) if int(chunksize) else None
    options: dict[str, Any] = {"cores": 2, "memory": "2GB"} if engine == "local" else {"port": int(sys.argv[4])}
    result = shaper.run(
        SOURCES, process=process, merge=merge, run_dir=run_dir, policy=policy, engine=engine, progress=False, **options
    )
    print(result.value["sum"], result.value["count"])
