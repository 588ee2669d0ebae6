"""Generates NanoAOD-like ROOT files whose sizes and contents are as uneven as those of a real analysis.

Events per file are lognormal (sd of the logarithm 0.9), the complexity of a file lognormal (0.25), the activity of an
event Gamma(4, 1/4), multiplicities Poisson. Files hold clusters of 32,768 events, compressed with zstd level 1.

A folder remembers in `manifest.json` what it was generated with and is used again as long as that is what is asked for.
Run as `python -m examples.topeft.generate --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from examples.topeft.samples import LUMINOSITY_PER_FB, SAMPLES, draw_events

CLUSTER_EVENTS = 32_768
SIZE_SPREAD = 0.9
COMPLEXITY_SPREAD = 0.25
FORMAT = 1  # raise it when the same settings make other files


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides about the content of the files.

    Args:
        events: over all files.
        files: dealt out to the processes in turn.
        coefficients: number of Wilson coefficients of the EFT processes.
        seed: same seed, same events.
    """

    events: int = 4_400_000
    files: int = 48
    coefficients: int = 26
    seed: int = 1

    def __post_init__(self) -> None:
        if self.files < 1 or self.events < self.files:
            raise ValueError(f"needs at least one file and one event in each, got {self.events} in {self.files} files")
        if not 0 <= self.coefficients <= 60:
            raise ValueError(f"coefficients must be from 0 to 60, got {self.coefficients}")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One generated file.

    Args:
        path: relative to the folder.
        sum_weights: sum of generator weight times standard-model term.
    """

    path: str
    process: str
    events: int
    size_bytes: int
    sum_weights: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """A folder of generated files."""

    folder: Path
    settings: Settings
    files: tuple[DataFile, ...]

    def fileset(self) -> dict[str, dict[str, Any]]:
        """Return what coffea's Runner takes: per process its files, and how to weight their events."""
        cross_sections = {sample.name: sample.cross_section_fb for sample in SAMPLES}
        out: dict[str, dict[str, Any]] = {}
        for process in dict.fromkeys(f.process for f in self.files):
            mine = [f for f in self.files if f.process == process]
            weight = cross_sections[process] * LUMINOSITY_PER_FB / sum(f.sum_weights for f in mine)
            out[process] = {
                "files": {str((self.folder / f.path).resolve()): "Events" for f in mine},
                "metadata": {"process": process, "weight": weight},
            }
        return out


def generate(settings: Settings, folder: Path, workers: int | None = None) -> Manifest:
    """Return the folder with the files of these settings, generating them only when they are not there.

    Files appear under their names only when they are whole; the manifest comes last. Nothing but generated files is
    ever removed.

    Args:
        workers: processes that write; by default all cores.
    """
    present = read_manifest(folder)
    if present is not None and present.settings == settings:
        return present
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        plans = list(plan(settings))
        count = max(1, min(workers or os.cpu_count() or 1, len(plans)))
        written = _write_all(plans, settings, scratch, count)
        for file in present.files if present is not None else ():
            (folder / file.path).unlink(missing_ok=True)
        for file in written:
            (scratch / file.path).replace(folder / file.path)
        manifest = Manifest(folder, settings, tuple(sorted(written, key=lambda f: f.path)))
        content = {"format": FORMAT, "settings": asdict(settings), "files": [asdict(f) for f in manifest.files]}
        (scratch / "manifest.json").write_text(json.dumps(content, indent=1))
        (scratch / "manifest.json").replace(folder / "manifest.json")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return what the folder holds; None when it was never finished, is of another format or misses a file."""
    try:
        content = json.loads((folder / "manifest.json").read_text())
        if content["format"] != FORMAT:
            return None
        files = tuple(DataFile(**f) for f in content["files"])
        whole = all((folder / f.path).stat().st_size == f.size_bytes for f in files)
        return Manifest(folder, Settings(**content["settings"]), files) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What one file will hold; `number` seeds it, so files do not depend on each other."""

    number: int
    sample: int
    events: int
    complexity: float


def plan(settings: Settings) -> Iterator[FilePlan]:
    """Yield the files: a heavy-tailed share of the events for each."""
    rng = np.random.default_rng((settings.seed, 0))
    shares = rng.lognormal(0.0, SIZE_SPREAD, settings.files)
    spare = settings.events - settings.files  # every file has at least one event
    edges = np.rint(np.concatenate([[0.0], np.cumsum(shares) / shares.sum()]) * spare).astype(int)
    complexity = rng.lognormal(0.0, COMPLEXITY_SPREAD, settings.files)
    for number, extra in enumerate(np.diff(edges)):
        yield FilePlan(number, number % len(SAMPLES), int(extra) + 1, float(complexity[number]))


def _write_all(plans: list[FilePlan], settings: Settings, folder: Path, workers: int) -> list[DataFile]:
    biggest_first = sorted(plans, key=lambda p: -p.events)
    if workers == 1:
        return [_write(file, settings, folder) for file in biggest_first]
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        return list(pool.map(_write, biggest_first, [settings] * len(plans), [folder] * len(plans)))


def _write(file: FilePlan, settings: Settings, folder: Path) -> DataFile:
    sample = SAMPLES[file.sample]
    path = folder / f"{sample.name}_{file.number:04d}.root"
    rng = np.random.default_rng((settings.seed, 1, file.number))
    sum_weights = 0.0
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as root:
        tree = None
        for start in range(0, file.events, CLUSTER_EVENTS):
            count = min(CLUSTER_EVENTS, file.events - start)
            block = draw_events(sample, count, file.complexity, settings.coefficients, rng)
            number = np.arange(start, start + count)
            block["event"] = number.astype(np.uint64)
            block["luminosityBlock"] = (1 + 1000 * file.number + number // 1000).astype(np.uint32)
            standard_model = block["EFTfitCoefficients"][:, 0] if sample.eft else 1.0
            sum_weights += float(np.sum(block["genWeight"].astype(float) * np.asarray(standard_model)))
            if tree is None:
                types = {name: getattr(value, "dtype", None) or value.type for name, value in block.items()}
                tree = root.mktree("Events", types)
            tree.extend(block)
    return DataFile(path.name, sample.name, file.events, path.stat().st_size, sum_weights)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that make Settings."""
    default = Settings()
    parser.add_argument("--events", type=int, default=default.events, help="events to generate [%(default)s]")
    parser.add_argument("--files", type=int, default=default.files, help="files to spread them over [%(default)s]")
    parser.add_argument(
        "--coefficients", type=int, default=default.coefficients, help="Wilson coefficients [%(default)s]"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of the generator [%(default)s]")


def main(arguments: list[str] | None = None) -> int:
    """Generate files and say what they are."""
    parser = argparse.ArgumentParser(prog="python -m examples.topeft.generate", description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("demo-output/data"), help="folder [%(default)s]")
    options = parser.parse_args(arguments)
    try:
        settings = Settings(options.events, options.files, options.coefficients, options.seed)
    except ValueError as error:
        parser.error(str(error))
    manifest = generate(settings, options.out)
    for file in manifest.files:
        print(f"{file.path:24} {file.events:>9} events {file.size_bytes / 1e6:>8.1f} MB")
    print(f"{len(manifest.files)} files, {sum(f.size_bytes for f in manifest.files) / 1e6:.0f} MB in {manifest.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
