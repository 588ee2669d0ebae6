"""The script of the README: counts the words of files, `python words.py *.txt`."""

import sys
from collections import Counter
from itertools import islice

import shaper


def process(chunk):  # called in a process of its own, for a piece of the dataset
    words = Counter()
    for span in chunk.spans:
        with open(span.source) as file:
            for line in islice(file, span.start, span.stop):
                words.update(line.split())
    return words


def merge(a, b):  # combines two results; in any order
    return a + b


lines = {name: sum(1 for _ in open(name)) for name in sys.argv[1:]}
result = shaper.run(lines, process=process, merge=merge)
print(result.value.most_common(5))
