"""The commands in a block of shell text or in a transcript, as lists of words, without running them.

Good enough for what stands on a page: pipes, `&&`, `;`, `$(…)`, continued lines, variables in front, redirections. It is
no shell. Called by the tests of this folder.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.docs.pages import ROOT, Block

_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=.*")
_WRAPPERS = {"exec", "time", "then", "do", "if", "!", "sudo"}


def commands(block: Block) -> list[list[str]]:
    """Return each command of a `bash` or `console` block; of a transcript the lines after `$ `, and those they go on with."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    found: list[list[str]] = []
    for line in text.splitlines():
        found += [words for inner in _SUBSTITUTION.findall(line) for words in _split(inner)]
        found += _split(_SUBSTITUTION.sub("SUBSTITUTED", line))
    return found


def arguments_of(program: str, block: Block) -> list[list[str]]:
    """Return the arguments of each call of `program`, also as `kubectl PROGRAM` and in a pod (`kubectl exec … -- PROGRAM`)."""
    found = []
    for words in commands(block):
        if words[:1] == ["kubectl"] and program in words:
            words = words[words.index(program) :]
        if words[:1] == [program]:
            found.append(words[1:])
    return found


def paths_in(block: Block) -> list[Path]:
    """Return what a block names of the repository: words that begin with one of its folders."""
    tops = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    words = [word for command in commands(block) for word in command]
    return [ROOT / word for word in words if "/" in word and word.split("/")[0] in tops and not set(word) & set("*<>{}$")]


def _split(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    skip_next = False
    for word in lexer:
        if set(word) <= set("<>&|;()"):
            if set(word) & set("<>"):
                skip_next = "&" not in word  # a file's name follows
            else:
                found.append([])
        elif skip_next:
            skip_next = False
        elif found[-1] or (not _ASSIGNMENT.fullmatch(word) and word not in _WRAPPERS):
            found[-1].append(word)
    return [words for words in found if words]
