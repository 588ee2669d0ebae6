"""The 1000-genome workflow as stages of shaper.

    count --> individuals --> individuals_merge --+--> mutation_overlap
      |                                           +--> frequency_all
      +-----> sifting ----------------------------+--> frequency

Every arrow is an `after`; the dataset of a stage is a function of the values of the stages it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from examples.genome import individuals, sharing, sifting
from examples.genome.generate import chromosome_of
from examples.genome.individuals import samples_of
from shaper import Chunk, Source, Stage, readers
from shaper.errors import BadInput

GENOTYPES, ANNOTATIONS = "genotypes", "annotations"
STAGES = ("count", "individuals", "individuals_merge", "sifting", "mutation_overlap", "frequency_all", "frequency")
# What each waits for.
AFTER = {
    "count": (),
    "individuals": ("count",),
    "sifting": ("count",),
    "individuals_merge": ("individuals",),
    "mutation_overlap": ("individuals_merge", "sifting"),
    "frequency_all": ("individuals_merge", "sifting"),
    "frequency": ("individuals_merge", "sifting"),
}


@dataclass(frozen=True)
class Workflow:
    """What is computed, and of what.

    Args:
        genotypes, annotations: VCF files, one chromosome each, all with the same samples.
        populations: names of samples by population; those with fewer than `draw` samples in the files are left out.
        draw: people in a random group of `frequency`.
        runs: random groups per chromosome and population.
        seed: of the random groups.
    """

    genotypes: Sequence[Path]
    annotations: Sequence[Path]
    populations: Mapping[str, Sequence[str]]
    draw: int = 52
    runs: int = 1000
    seed: int = 1

    def columns(self) -> Mapping[str, tuple[int, ...]]:
        """The columns of each population's samples; of populations that are too small, none."""
        names = samples_of(self.genotypes[0])
        for path in self.genotypes[1:]:
            if samples_of(path) != names:
                raise BadInput(f"{path}: its samples are not those of {self.genotypes[0]}")
        place = {name: column for column, name in enumerate(names)}
        found = {
            population: tuple(sorted(place[name] for name in set(members) & place.keys()))
            for population, members in self.populations.items()
        }
        return {population: columns if len(columns) >= self.draw else () for population, columns in found.items()}

    def stages(self) -> list[Stage]:
        """The stages, ready for `shaper.run`.

        Raises:
            BadInput: the files have other samples than each other, or no population has enough of them.
        """
        populations = {name: columns for name, columns in self.columns().items() if columns}
        if not populations:
            raise BadInput(f"no population has {self.draw} samples in {self.genotypes[0]}: draw fewer")
        files = [Source(str(path), 1, payload=GENOTYPES) for path in self.genotypes]
        files += [Source(str(path), 1, payload=ANNOTATIONS) for path in self.annotations]
        others = {name: columns for name, columns in populations.items() if name != "ALL"}
        everybody = {name: columns for name, columns in populations.items() if name == "ALL"}
        after = ("individuals_merge", "sifting")
        frequency = sharing.Frequency(self.draw, self.seed)
        stages = [
            Stage("count", files, count, together),
            Stage("individuals", genotypes_of, individuals.individuals, individuals.join, ("count",)),
            Stage(
                "individuals_merge",
                individuals.sample_blocks,
                individuals.individuals_merge,
                individuals.join_samples,
                ("individuals",),
            ),
            Stage("sifting", annotations_of, sifting.sifting, sifting.join, ("count",)),
            Stage("mutation_overlap", sharing.Pairs(populations), sharing.mutation_overlap, sharing.add, after),
        ]
        for name, mine in (("frequency_all", everybody), ("frequency", others)):
            if mine:
                stages.append(Stage(name, sharing.Draws(mine, self.runs), frequency, sharing.add, after))
        return stages


Counted = Mapping[str, tuple[Source, ...]]


def count(chunk: Chunk) -> Counted:
    """Count the lines of files, by kind; the group of what is counted is its chromosome."""
    found: dict[str, tuple[Source, ...]] = {GENOTYPES: (), ANNOTATIONS: ()}
    for span in chunk.spans:
        kind = span.source.payload
        source = readers.vcf(span.source.id)
        if not source.elements:
            raise BadInput(f"{source}: it has no variants")
        found[kind] += (replace(source, group=chromosome_of(source)),)
    return found


def together(a: Counted, b: Counted) -> Counted:
    """Put counted files together."""
    return {kind: (*a[kind], *b[kind]) for kind in a}


def genotypes_of(counted: Counted) -> Sequence[Source]:
    """The dataset of `individuals`."""
    return _one_each(counted[GENOTYPES])


def annotations_of(counted: Counted) -> Sequence[Source]:
    """The dataset of `sifting`."""
    return _one_each(counted[ANNOTATIONS])


def _one_each(sources: Sequence[Source]) -> Sequence[Source]:
    """The sources by chromosome.

    Raises:
        BadInput: two files are of one chromosome.
    """
    by_chromosome = {source.group: source for source in sources}
    if len(by_chromosome) < len(sources):
        raise BadInput(f"two of these files are of one chromosome: {', '.join(source.id for source in sources)}")
    return [by_chromosome[name] for name in sorted(by_chromosome)]
