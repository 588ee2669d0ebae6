"""Datasets from files: counted once, cut anywhere, each piece read from near its beginning.

    shaper.run([readers.text(path) for path in paths], process=..., merge=...)

and in `process`: `for span in chunk.spans: for line in readers.lines_of(span): ...`
"""

from shaper.readers.lines import header, lines_of, text, vcf
from shaper.readers.reads import fastq, reads_of

__all__ = ["fastq", "header", "lines_of", "reads_of", "text", "vcf"]
