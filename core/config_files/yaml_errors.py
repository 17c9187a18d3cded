"""Translate pyyaml's syntax errors, which name rules of the grammar, into plain sentences with a remedy."""

from __future__ import annotations

import re

import yaml

from ..errors import Location, Problem

_QUOTE_IT = "text cannot start with {0} in YAML; put quotes around it"
_PLAIN: list[tuple[str, str]] = [
    (r"found character '\\t'", "a tab is not allowed here; use spaces"),
    (r"found character '(.)' that cannot start", _QUOTE_IT),
    (
        r"mapping values are not allowed",
        "`:` is not allowed here; check the indentation, or quote text that contains `: `",
    ),
    (r"sequence entries are not allowed", "a list's `- ` cannot start here; put it on a separate line"),
    (r"could not find expected ':'", "this line has no `:`; write `key: value`, or quote text of several lines"),
    (
        r"found undefined alias '(.*)'",
        "there is no anchor for `*{0}`; set `&{0}` before it, or quote text that starts with `*`",
    ),
    (
        r"found a tag (.*)",
        "tags such as `{0}` are not allowed; write the plain value, or quote text that starts with `!`",
    ),
    (r"expected the node content, but found '(.*)'", "a value is missing before `{0}`"),
    (r"expected <block end>", "this does not line up with the lines above; check the indentation and quotes"),
    (r"but found another document", "a file must contain only one document; remove the `---`"),
    (r"second occurrence", "another anchor has this name; anchors need different names"),
    (r"found unknown escape character '(.)'", r"`\{0}` is not an escape sequence; use single quotes"),
    (r"expected alphabetic or numeric", "a name must follow `*` and `&`; quote text that starts with them"),
]
_UNCLOSED = {"flow sequence": "[", "flow mapping": "{"}


def syntax_problem(error: Exception, text: str, source: str) -> Problem:
    """Describe the error in a text that pyyaml cannot read: its location, its cause and the remedy.

    Args:
        error: pyyaml's exception, or RecursionError
        text: the text
        source: name of the text in messages
    """
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        where = Location(source, before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        return Problem(where, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML; remove it")
    if isinstance(error, RecursionError):
        return Problem(Location(source, 1, 1), "lists or mappings are nested too deeply")
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(Location(source, 1, 1), f"this is not YAML: {error}")
    return _marked(error, source)


def _marked(error: yaml.MarkedYAMLError, source: str) -> Problem:
    context, problem = error.context or "", error.problem or ""
    opened = next((sign for name, sign in _UNCLOSED.items() if name in context), None)
    if opened and error.context_mark and "expected ','" in problem:
        found = f"line {error.problem_mark.line + 1}" if error.problem_mark else "the end"
        message = f"this `{opened}` is not closed, or a comma is missing; noticed at {found}"
        return Problem(_at(error.context_mark, source), message)
    if "quoted scalar" in context and "end of stream" in problem and error.context_mark:
        return Problem(_at(error.context_mark, source), "this quote is never closed")
    mark = (error.context_mark if "could not find expected ':'" in problem else None) or error.problem_mark
    where = _at(mark, source) if mark else Location(source, 1, 1)
    for pattern, message in _PLAIN:
        match = re.search(pattern, problem)
        if match:
            return Problem(where, message.format(*match.groups()))
    return Problem(where, f"this is not YAML: {' '.join(part for part in (context, problem) if part)}")


def _at(mark: yaml.Mark, source: str) -> Location:
    return Location(source, mark.line + 1, mark.column + 1)
