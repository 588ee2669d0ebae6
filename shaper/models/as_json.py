"""Beliefs as documents of JSON and back, for other runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shaper.errors import BadInput
from shaper.models.beliefs import Beliefs, CategoryBeliefs, StageRuns
from shaper.models.parallelism import ParallelismModel
from shaper.models.plain import decoded, encoded

VERSION = 1


def to_json(beliefs: Beliefs) -> dict[str, Any]:
    """What was learnt as a document of JSON: categories and the pace of dispatch.

    What is about the clock of one run (starts, I/O errors that go on) is left out.
    """
    return {
        "version": VERSION,
        "observations": beliefs.version,
        "dispatch_s": beliefs.dispatch_s,
        "without": sorted(beliefs.without),
        "categories": {name: encoded(known) for name, known in beliefs.categories.items()},
    }


def from_json(document: object) -> Beliefs:
    """Return the beliefs of a document.

    Raises:
        BadInput: it is of another version, or no such document; the message says where it is wrong.
    """
    if not isinstance(document, Mapping):
        raise BadInput(f"beliefs are an object, got {type(document).__name__}")
    if document.get("version") != VERSION:
        raise BadInput(f"beliefs of version {document.get('version')!r} are not known here, only {VERSION}")
    return Beliefs(
        decoded(Mapping[str, CategoryBeliefs], document.get("categories"), "categories"),
        decoded(float, document.get("dispatch_s", 0.0), "dispatch_s"),
        version=decoded(int, document.get("observations", 0), "observations"),
        without=decoded(frozenset[str], document.get("without", []), "without"),
    )


def runs_to_json(runs: StageRuns) -> dict[str, Any]:
    """What the runs of a category's stages have shown about parallelism, as a document of JSON."""
    return {"version": VERSION, "base_elements": runs.base_elements, "model": runs.model.to_json()}


def runs_from_json(document: object) -> StageRuns:
    """Return the runs of a document.

    Raises:
        BadInput: it is of another version, or no such document.
    """
    if not isinstance(document, Mapping):
        raise BadInput(f"what is known about parallelism is an object, got {type(document).__name__}")
    if document.get("version") != VERSION:
        raise BadInput(f"version {document.get('version')!r} is not known here, only {VERSION}")
    base, model = document.get("base_elements"), document.get("model")
    if isinstance(base, bool) or not isinstance(base, int) or base < 1 or not isinstance(model, Mapping):
        raise BadInput(f"a baseline of {base!r} elements and a model of type {type(model).__name__}")
    return StageRuns(base, model=ParallelismModel.from_json(model))
