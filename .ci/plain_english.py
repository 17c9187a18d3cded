"""Report phrases that make a sentence read as if it were translated. `make lint` runs it over the rewritten folders.

Notable choices:

- A phrase is a regular expression with advice that is printed next to a hit, so the list explains itself.
- Identifiers are checked like prose, because readers see both.
- `ALLOWED` lists correct uses: a pattern for the file and one for the line.
- `experiments/LOG.md` and recorded results are left out, because a record keeps what was written at the time.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".md", ".j2", ".yaml", ".toml", ".expected", "Makefile")
LEFT_OUT = (
    "experiments/LOG.md",
    "docs/ablations/",
    "benchmarks/RESULTS.md",
    ".ci/plain_english.py",
    "tests/test_plain_english.py",
)

ADVICE: dict[str, str] = {
    r"told|tells? (of|apart)|telling of": "reported, described, given",
    r"anew|once more": "again",
    r"unasked": "without being asked",
    r"heed(s|ed|ing)?": "use, respect, ignore",
    r"mend(s|ed|ing|able)?": "fix",
    r"strangers?('s)?": "third-party",
    r"(?<!there )(is|are) no (?!longer\b|more\b|less\b|fewer\b|better\b|worse\b|\w+er than\b)\w+": "is not a …",
    r"(held|holds?|holding) against": "compare with, check against",
    r"(stands?|stood|standing) in for": "replace",
    r"of (its|their|one's|his|your) own": "a separate …, its …",
    r"alone": "only",
    r"for want of": "because there is no …",
    r"what is more|no matter of|whence|wherein|thereof|hitherto|lest|whoever|whatsoever": "a plainer sentence",
    r"reckon(s|ed|ing)?|wont to|bethink|betray(s|ed)?": "compute, expect",
    r"rehears(e|es|ed|al|ing)|unperformed|sketch(es|ed|ing)?|leaking": "dry run, fake compute, preview, leakage",
    r"rooms?": "folder",
    r"for (it|they|he|she) (is|are|was|were|has|have|had|would|could|can|does|do|may|might|must|will)": "because it is",
}
"""Phrases to avoid, each with what to write instead."""

ALLOWED: tuple[tuple[str, str], ...] = (
    (r"audio/corpora/|tests/audio/|docs/data\.md|experiments/", r"\brooms?\b"),
    (r".*", r"\balone and (padded|in a)\b"),
    (r".*", r"\bcannot be told\b|\bbe told from\b"),
    (r".*", r"\brooms? (is|was|are) (made|left|there)\b|\bhas room\b|\bmake room\b"),
)
"""Correct uses: a pattern for the file and one for the line. Hits on such lines are ignored."""


class Hit(NamedTuple):
    """A phrase that was found in a file."""

    file: str
    line: int
    phrase: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: `{self.phrase}`. Write: {self.advice}"


def hits_in(file: str, text: str) -> Iterator[Hit]:
    """Find the phrases in the text of a file, line by line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if any(re.search(path, file) and re.search(use, line) for path, use in ALLOWED):
            continue
        for phrase, advice in _PHRASES:
            for found in phrase.finditer(line):
                yield Hit(file, number, found[0], advice)


_PHRASES = [(re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE), advice) for phrase, advice in ADVICE.items()]


def tracked_files() -> list[str]:
    """List the text files that Git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if name.endswith(SUFFIXES) and not name.startswith(LEFT_OUT)]


def main(names: list[str]) -> int:
    """Check the named files and folders, or all tracked files, and print every hit."""
    files = [file for file in tracked_files() if not names or file.startswith(tuple(names))]
    found = [hit for file in files if (ROOT / file).is_file() for hit in hits_in(file, _read(ROOT / file))]
    for hit in found:
        print(hit)
    if found:
        print(f"{len(found)} phrases. Add correct uses to ALLOWED in .ci/plain_english.py.", file=sys.stderr)
    return 1 if found else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
