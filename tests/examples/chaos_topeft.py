"""The physics example at small scale, for the chaos test: prints counts and every histogram bin."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def analyse(data: Path, executor: Any) -> dict[str, Any]:
    """Return event counts and the bins of one variable by category."""
    from coffea.processor import Runner

    from examples.topeft.generate import read_manifest
    from examples.topeft.processor import QuietNanoAODSchema, TopEFTProcessor

    manifest = read_manifest(data)
    assert manifest is not None
    warnings.simplefilter("ignore")
    runner = Runner(executor=executor, schema=QuietNanoAODSchema, chunksize=1500)
    out = runner(manifest.fileset(), TopEFTProcessor(3, systematics=(), only=("ht",)))
    bins = {str(category): sums.ravel().tolist() for category, sums in out["histograms"]["ht"].sums.items()}
    return {"events": dict(sorted(out["events"].items())), "bins": dict(sorted(bins.items()))}


if __name__ == "__main__":
    from shaper.coffea import ShaperExecutor

    _, folder, run_dir = sys.argv
    print(json.dumps(analyse(Path(folder), ShaperExecutor(run_dir=run_dir, cores=2, memory="3GB", status=False))))
