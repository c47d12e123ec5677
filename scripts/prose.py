"""Reads the comments of Rust files and the text of Markdown files, for check-prose and reflow-comments."""

import os
import re
import subprocess

WIDTH = 100

# One alternative for each token in which `//` or a line's start does not mean what it seems to.
_TOKEN = re.compile(
    r"""
      (?P<line>//[^\n]*)
    | (?P<block>/\*.*?\*/)
    | (?P<raw>\bb?c?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>\bb?c?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*")
    | (?P<char>'(?:\\[^\n]{1,8}?|[^'\\\n])')
    """,
    re.VERBOSE | re.DOTALL,
)

_COMMENT = re.compile(r"^(?P<indent>[ \t]*)(?P<marker>//[/!]?)(?!/)(?P<space> ?)(?P<text>.*)$")


def tracked(*patterns):
    """The paths of tracked files that match, and of new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [path for path in sorted(set(listed.splitlines())) if os.path.isfile(path)]


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def lines_in_literals(text):
    """The numbers (from 0) of the lines whose start lies inside a string or a block comment."""
    inside = set()
    for token in _TOKEN.finditer(text):
        if token.lastgroup in ("line", "char"):
            continue
        first = text.count("\n", 0, token.start())
        inside.update(range(first + 1, first + 1 + token.group().count("\n")))
    return inside


def comment_blocks(text):
    """Runs of comment lines with one marker and one indent: (first line from 0, indent, marker, texts)."""
    inside = lines_in_literals(text) if "\n" in text else set()
    blocks, current = [], None
    for number, line in enumerate(text.split("\n")):
        found = None if number in inside else _COMMENT.match(line)
        if not found:
            current = None
            continue
        key = (found["indent"], found["marker"])
        if current is None or current[1:3] != key:
            current = (number, *key, [])
            blocks.append(current)
        current[3].append(found["space"] + found["text"])
    return blocks


_FENCE = re.compile(r"^\s*(```|~~~)")
_ITEM = re.compile(r"^(?P<lead>\s*)(?P<bullet>[-*+]|\d{1,3}[.)])(?P<gap>\s+)\S")
_DRAWING = re.compile(r"[\u2500-\u25ff]|\S {3,}\S|-->|<--|==>|\+--|--\+")


def pieces(texts):
    """
    Splits the lines of a comment or a document into pieces: (kind, first, last + 1), where kind is `paragraph`,
    `item`, or `other` for what has lines of its own: blank ones, tables, headings, code, drawings, quotes.
    """
    found, fenced, start, kind = [], False, None, None

    def close(end):
        nonlocal start, kind
        if start is not None:
            found.append((kind, start, end))
        start, kind = None, None

    for number, line in enumerate(texts):
        if _FENCE.match(line):
            close(number)
            fenced = not fenced
            found.append(("other", number, number + 1))
            continue
        stripped = line.strip()
        alone = (
            fenced
            or not stripped
            or stripped.startswith(("|", "#", ">", "<", "---", "==="))
            or re.match(r"^\[[^\]]+\]: ", stripped)
            or _DRAWING.search(stripped)
            or (line.startswith(("     ", "\t")) and kind is None)
        )
        if alone:
            close(number)
            found.append(("other", number, number + 1))
        elif _ITEM.match(line):
            close(number)
            start, kind = number, "item"
        elif start is None:
            start, kind = number, "paragraph"
    close(len(texts))
    return found


def drawn(texts, first, end):
    """Whether a piece touches a drawing, so that its lines are part of it."""
    around = [texts[at] for at in (first - 1, end) if 0 <= at < len(texts)]
    return any(_DRAWING.search(line.strip()) and not line.strip().startswith("|") for line in around)
