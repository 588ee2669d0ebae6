"""Generates what the 1000-genome workflow reads: per chromosome a VCF of genotypes and one of annotations, and lists.

A folder remembers in `manifest.json` what it was generated with and is used again as long as that is what is asked for.
Run as `python -m examples.genome.generate --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from examples.genome import annotation, bgzf, variants
from examples.genome.variants import BATCH, Cohort
from shaper import Source, Span, readers
from shaper.errors import BadInput

FORMAT = 1  # raise it when the same settings make other files
CHROMOSOMES = ("22", "21", "20", "19")
_LEAST_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides about the content of the files.

    Args:
        variants: lines per chromosome.
        chromosomes: how many, from 22 downwards.
        samples: columns; 2,504 in phase 3.
        annotated: share of the lines with a SIFT prediction. In nature 0.005; more here, as there are fewer lines.
        seed: same seed, same files.
    """

    variants: int = 60_000
    chromosomes: int = 2
    samples: int = 2_504
    annotated: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        if self.variants < 1 or not 1 <= self.chromosomes <= len(CHROMOSOMES):
            raise ValueError(
                f"needs a variant in each of 1 to {len(CHROMOSOMES)} chromosomes, got {self.variants} in each of "
                f"{self.chromosomes}"
            )
        if self.samples < _LEAST_SAMPLES or not 0 < self.annotated <= 1:
            raise ValueError(
                f"needs at least {_LEAST_SAMPLES} samples and a share from above 0 to 1 of annotated lines, got "
                f"{self.samples} and {self.annotated}"
            )
        if self.seed < 0:
            raise ValueError(f"needs a seed of at least 0, got {self.seed}")


@dataclass(frozen=True, slots=True)
class Files:
    """A folder of files for the workflow.

    Args:
        genotypes, annotations: VCF files, one of each per chromosome.
        populations: the names of samples, by population.
    """

    folder: Path
    genotypes: tuple[Path, ...]
    annotations: tuple[Path, ...]
    populations: Mapping[str, Sequence[str]]


def generate(settings: Settings, folder: Path, workers: int | None = None) -> Files:
    """Return the folder with the files of these settings, generating them only when they are not there.

    Files appear under their names only when they are whole; the manifest comes last.

    Args:
        workers: processes that draw; by default all cores.
    """
    folder = folder.resolve()  # tasks may run elsewhere
    chromosomes = CHROMOSOMES[: settings.chromosomes]
    genotypes = tuple(folder / f"chr{name}.vcf.gz" for name in chromosomes)
    annotations = tuple(folder / f"chr{name}.annotation.vcf.gz" for name in chromosomes)
    cohort = Cohort(settings.samples)
    if _manifest(folder) != asdict(settings):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        try:
            (folder / "manifest.json").unlink(missing_ok=True)
            for name, path, notes in zip(chromosomes, genotypes, annotations, strict=True):
                _write_genotypes(name, scratch / path.name, settings, cohort, workers)
                write_annotation(scratch / path.name, scratch / notes.name, settings.annotated, settings.seed)
            (scratch / "populations").mkdir()
            for population, samples in cohort.lists.items():
                (scratch / "populations" / population).write_text("".join(f"{sample}\n" for sample in samples))
            shutil.rmtree(folder / "populations", ignore_errors=True)
            for made in scratch.iterdir():
                made.replace(folder / made.name)
            sizes = {path.name: path.stat().st_size for path in (*genotypes, *annotations)}
            content = {"format": FORMAT, "settings": asdict(settings), "sizes_bytes": sizes}
            (scratch / "manifest.json").write_text(json.dumps(content, indent=1))
            (scratch / "manifest.json").replace(folder / "manifest.json")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Files(folder, genotypes, annotations, read_populations(folder / "populations"))


def read_populations(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the lists of a folder: a file for each population, a name of a sample in each line.

    Raises:
        BadInput: there is no such folder, no list in it, or a file that is none.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    lists = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            lists[path.name] = tuple(path.read_text().split())
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: not a list of names") from error
    if not lists:
        raise BadInput(f"{folder}: it is empty; a population is a file with a name of a sample in each line")
    return lists


def write_annotation(genotypes: Path, path: Path, share: float, seed: int) -> None:
    """Write the annotation of all lines of a VCF file, for a share of them with a SIFT prediction."""
    source = readers.vcf(genotypes)
    chromosome = chromosome_of(source)
    lines = annotation.annotated_lines(source, share, seed)
    _write(path, map(bgzf.compressed, (annotation.header(chromosome), *lines)))


def chromosome_of(genotypes: Source) -> str:
    """The chromosome of a VCF file's first line."""
    first = next(readers.lines_of(Span(genotypes, 0, 1)))
    return first.split(b"\t", 1)[0].decode()


def _manifest(folder: Path) -> object:
    """The settings of the files in a folder; None when it was never finished, is of another format or misses a file."""
    try:
        content = json.loads((folder / "manifest.json").read_text())
        whole = all((folder / name).stat().st_size == size for name, size in content["sizes_bytes"].items())
        return content["settings"] if content["format"] == FORMAT and whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_genotypes(chromosome: str, path: Path, settings: Settings, cohort: Cohort, workers: int | None) -> None:
    head = bgzf.compressed(variants.header(chromosome, cohort.names))
    batches = range(-(-settings.variants // BATCH))
    counts = [min(BATCH, settings.variants - BATCH * batch) for batch in batches]
    arguments = (repeat(chromosome), batches, counts, repeat(cohort), repeat(settings.seed))
    count = workers or os.cpu_count() or 1
    if count == 1:
        _write(path, [head, *map(_drawn, *arguments)])
        return
    with ProcessPoolExecutor(count, mp_context=get_context("forkserver")) as pool:
        _write(path, [head, *pool.map(_drawn, *arguments, chunksize=4)])


def _drawn(chromosome: str, batch: int, count: int, cohort: Cohort, seed: int) -> bytes:
    return bgzf.compressed(variants.drawn_lines(chromosome, batch, count, cohort, seed))


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(parts)
        file.write(bgzf.END)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that make Settings."""
    default = Settings()
    parser.add_argument("--variants", type=int, default=default.variants, help="lines per chromosome [%(default)s]")
    parser.add_argument("--chromosomes", type=int, default=default.chromosomes, help="how many [%(default)s]")
    parser.add_argument("--samples", type=int, default=default.samples, help="columns [%(default)s]")
    parser.add_argument(
        "--annotated", type=float, default=default.annotated, help="share with a SIFT prediction [%(default)s]"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of the generator [%(default)s]")


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings of parsed options."""
    return Settings(options.variants, options.chromosomes, options.samples, options.annotated, options.seed)


def main(arguments: list[str] | None = None) -> int:
    """Generate files and say what they are."""
    parser = argparse.ArgumentParser(prog="python -m examples.genome.generate", description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("demo-output/genome/data"), help="folder [%(default)s]")
    options = parser.parse_args(arguments)
    try:
        settings = settings_of(options)
    except ValueError as error:
        parser.error(str(error))
    files = generate(settings, options.out)
    for path in (*files.genotypes, *files.annotations):
        print(f"{path.name:26} {path.stat().st_size / 1e6:>8.1f} MB")
    print(", ".join(f"{name}: {len(samples)}" for name, samples in files.populations.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
