"""Measures memory and time of one processing task against its size, each in a fresh process.

`python -m examples.topeft.sizes --data demo-output/data` prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from examples.topeft.generate import DataFile, Manifest, read_manifest

SIZES = (1_000, 8_000, 32_768, 65_536, 131_072, 262_144)


def measure(manifest: Manifest, file: DataFile, events: int, errors: bool) -> dict[str, float]:
    """Process the first `events` events of a file in this process and return what it took."""
    from coffea.nanoevents import NanoEventsFactory

    from examples.topeft.processor import QuietNanoAODSchema, TopEFTProcessor

    imports_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started_s = time.process_time()
    chunk = NanoEventsFactory.from_root(
        {str(manifest.folder / file.path): "Events"},
        schemaclass=QuietNanoAODSchema,
        entry_stop=events,
        metadata={"dataset": file.process, "filename": file.path},
    ).events()
    TopEFTProcessor(manifest.settings.coefficients, errors=errors).process(chunk)
    return {
        "events": events,
        "cpu_s": time.process_time() - started_s,
        "imports_mib": imports_mib,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or with --one the measurement of one size as JSON."""
    parser = argparse.ArgumentParser(prog="python -m examples.topeft.sizes", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("demo-output/data"), help="generated files [%(default)s]")
    parser.add_argument("--process", default="ttlnu", help="whose largest file is read [%(default)s]")
    parser.add_argument("--errors", action="store_true", help="with variances at every point")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="EVENTS")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    manifest = read_manifest(options.data)
    mine = [f for f in manifest.files if f.process == options.process] if manifest is not None else []
    if manifest is None or not mine:
        parser.error(f"no generated files of {options.process} in {options.data}: run examples.topeft.generate first")
    file = max(mine, key=lambda f: f.events)
    if options.one is not None:
        print(json.dumps(measure(manifest, file, options.one, options.errors)))
        return 0
    print("|  events | peak MiB | CPU s | CPU s per 100k |\n|---:|---:|---:|---:|")
    for events in (size for size in options.sizes if size <= file.events):
        command = [sys.executable, "-m", "examples.topeft.sizes", "--data", str(options.data), "--one", str(events)]
        command += ["--process", options.process, *(["--errors"] if options.errors else [])]
        seen = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        rate = 1e5 * seen["cpu_s"] / events
        print(f"| {events:>7} | {seen['peak_mib']:>8.0f} | {seen['cpu_s']:>5.2f} | {rate:>6.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
