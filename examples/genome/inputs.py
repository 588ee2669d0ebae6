"""What the workflow reads: generated files, the slice of shapeit4-example or the user's, checked before it runs."""

from __future__ import annotations

import argparse
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from examples.genome.generate import Files, generate, read_populations, settings_of, write_annotation
from examples.genome.individuals import samples_of
from shaper.errors import BadInput
from shaper.readers import header

REAL = Path("/usr/share/doc/shapeit4/examples/test/reference.vcf.gz")
_NAMES_SHOWN = 3


def inputs_of(options: argparse.Namespace, console: Console) -> Files:
    """Return the files that the options name, generating those that they do not.

    Raises:
        BadInput: a file cannot be used, or they do not go together.
    """
    settings = settings_of(options)
    if options.real and options.vcf:
        raise BadInput("give --real or --vcf, not both")
    if options.real and not REAL.is_file():
        raise BadInput(f"{REAL} is not there; as root: apt-get install shapeit4-example")
    if options.real or options.vcf:
        return _given(options, console)
    for name in ("annotation", "populations"):
        if getattr(options, name) is not None:
            raise BadInput(f"--{name} goes with --vcf or --real: what is generated has its own")
    if options.draw > settings.samples:
        raise BadInput(f"--draw {options.draw}: there are {settings.samples} samples")
    what = f"{settings.variants} variants of {settings.samples} samples in {settings.chromosomes} chromosomes"
    with console.status(f"{what} (generated once, kept in {options.data})"):
        return generate(settings, options.data)


def _given(options: argparse.Namespace, console: Console) -> Files:
    genotypes = (REAL,) if options.real else tuple(path.resolve() for path in options.vcf)
    known = _by_chromosome(genotypes)
    names = samples_of(genotypes[0])
    if not names:
        raise BadInput(f"{genotypes[0]}: it has no samples")
    annotations = tuple(path.resolve() for path in options.annotation or ())
    if annotations:
        _annotated(annotations, known)
    if options.populations is None:
        console.print("no --populations: the halves of the samples stand for them")
        half = len(names) // 2
        populations: Mapping[str, Sequence[str]] = {"first half": names[:half], "second half": names[half:]}
    else:
        populations = _populations(options.populations, genotypes[0], names, console)
    if not annotations:
        annotations = tuple(options.data.resolve() / f"{path.name}.annotation.gz" for path in genotypes)
        console.print(f"no --annotation: made up, a share of {options.annotated} of the variants has a SIFT prediction")
        options.data.mkdir(parents=True, exist_ok=True)
        for path, made in zip(genotypes, annotations, strict=True):
            write_annotation(path, made, options.annotated, options.seed)
    return Files(options.data, genotypes, annotations, {**populations, "ALL": names})


def _annotated(annotations: Sequence[Path], known: Mapping[str, Path]) -> None:
    """Refuse annotations that are not one for each file of genotypes."""
    if len(annotations) != len(known):
        raise BadInput(f"--annotation names {len(annotations)} files, the genotypes are {len(known)}: one for each")
    for chromosome, path in _by_chromosome(annotations).items():
        if chromosome not in known:
            raise BadInput(f"{path}: it is of chromosome {chromosome}, the genotypes of {', '.join(known)}")


def _by_chromosome(paths: Sequence[Path]) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        chromosome = _chromosome_of(path)
        if chromosome in found:
            raise BadInput(f"{found[chromosome]} and {path} are both of chromosome {chromosome}: one file for each")
        found[chromosome] = path
    return found


def _chromosome_of(path: Path) -> str:
    """The chromosome of a VCF file's first line, of which it reads no more."""
    lines = header(path)
    if not lines or not lines[-1].startswith("#CHROM\t"):
        raise BadInput(f"{path}: not a VCF file: it has no header that ends with the names of columns")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as content:
            first = next((line for line in content if not line.startswith(b"#")), b"")
    except (EOFError, zlib.error) as error:
        raise BadInput(f"{path}: it is damaged or cut short: {error}") from error
    if b"\t" not in first:
        raise BadInput(f"{path}: it has no variants")
    return first.partition(b"\t")[0].decode(errors="replace")


def _populations(
    folder: Path, genotypes: Path, names: Sequence[str], console: Console
) -> Mapping[str, tuple[str, ...]]:
    """The lists of a folder; who is not in the genotypes is said: lists often name more people than a file has."""
    lists, known = read_populations(folder), set(names)
    if not any(known.intersection(members) for members in lists.values()):
        raise BadInput(f"{folder}: its lists name nobody of {genotypes}")
    for population, members in lists.items():
        others = [name for name in members if name not in known]
        if others:
            shown = ", ".join(others[:_NAMES_SHOWN]) + (", ..." if len(others) > _NAMES_SHOWN else "")
            console.print(f"{population}: {len(others)} of {len(members)} people are not in the genotypes: {shown}")
    return lists
