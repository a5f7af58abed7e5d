"""The site of the documentation: `make docs` builds `build/site` from the pages of the repository.

Pages are written for the forge. They are copied with the layout of the repository, so that links between them hold, and
changed only where MkDocs reads Markdown differently. The order of pages is that of docs/README.md. MkDocs runs strictly: a
broken link or anchor fails. It has an environment of its own, from hashed requirements, so that the project's holds none of
it. Standard library only. Called by the Makefile and by hack/check.py; it must not change a file of the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build"
SOURCE: Final = BUILD / "site-source"
SITE: Final = BUILD / "site"
ENVIRONMENT: Final = BUILD / "site-environment"
REQUIREMENTS: Final = ROOT / "requirements" / "docs.txt"
CONTENTS: Final = "docs/README.md"
PATTERNS: Final = ("*.md", "docs/**/*.md", "examples/*/README.md", "config/**/*.md", "charts/*/README.md")
"""What is a page: the same as in tests/docs/pages.py."""
LIMIT_SECONDS: Final = 600

_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!\\)\[([^\]]*)\]\(([^)\s]+)\)")
_FOR_TESTS = re.compile(r"^<!-- (?:given|not run|values)\b.*?-->\n", re.MULTILINE)


def pages() -> list[Path]:
    """Return every page, relative to the root."""
    return sorted({path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)})


def for_site(text: str) -> str:
    """Return a page as MkDocs has to have it: no comments for tests, and a blank line before lists and tables."""
    parts = _FENCE.split(_FOR_TESTS.sub("", text))
    return "".join(part if part.startswith("```") else _with_blank_lines(part) for part in parts)


def _with_blank_lines(text: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        kind = _kind(line)
        if kind and before.strip() and _kind(before) != kind and not before.startswith(" "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _kind(line: str) -> str:
    """Return what a line begins: a table, a list, or ''."""
    if line.startswith("|"):
        return "table"
    return "list" if re.match(r"(?:[-*]|\d+\.) ", line) else ""


def navigation(contents: str) -> list[object]:
    """Return MkDocs' `nav` from the table of contents: a section a heading, its links in order, each page once."""
    sections: list[object] = [{"Home": "README.md"}, {"Contents": CONTENTS}]
    seen = {"README.md", CONTENTS}
    for section in re.split(r"^## ", contents, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        entries: list[object] = []
        for words, link in _LINK.findall(text):
            page = os.path.normpath(f"docs/{link.partition('#')[0]}")
            if page.endswith(".md") and page not in seen:
                seen.add(page)
                entries.append({words[:1].upper() + words[1:]: page})
        if entries:
            sections.append({title.strip(): entries})
    return sections


def copy_pages() -> None:
    """Write SOURCE: pages, the files that they link to, and a list of files for each folder that they link to."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in pages():
        parts = _FENCE.split(for_site((ROOT / page).read_text(encoding="utf-8")))
        parts[::2] = [_with_links_followed(page, prose) for prose in parts[::2]]  # every other part is a code block
        target = SOURCE / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(parts), encoding="utf-8")


def _with_links_followed(page: Path, prose: str) -> str:
    return _LINK.sub(lambda link: _followed(page, link[1], link[2]), prose)


def _followed(page: Path, words: str, link: str) -> str:
    """Return a link as the site has it, and copy what it leads to."""
    path = link.partition("#")[0]
    target = (ROOT / page.parent / path).resolve()
    if "://" in link or not path or target.suffix == ".md" or not target.is_relative_to(ROOT) or not target.exists():
        return f"[{words}]({link})"
    inside = target.relative_to(ROOT)
    if target.is_dir():
        listing = _listed(inside)
        return f"[{words}]({os.path.relpath(listing, page.parent)})"
    _copied(inside)
    return f"[{words}]({link})"


def _listed(folder: Path) -> Path:
    """Return the page that a folder is shown as: its README, or a list of its files, which is made."""
    readme = folder / "README.md"
    if (ROOT / readme).exists():
        return readme
    made = SOURCE / folder / "index.md"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        files = [path for path in sorted((ROOT / folder).iterdir()) if path.is_file() and path.name != "__init__.py"]
        lines = [f"- [{path.name}]({path.name})" for path in files]
        for path in files:
            _copied(path.relative_to(ROOT))
        made.write_text(f"# {folder}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder / "index.md"


def _copied(file: Path) -> None:
    target = SOURCE / file
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / file, target)


def environment() -> Path:
    """Make the site's environment current and return its interpreter. CalledProcessError when pip fails."""
    wanted = hashlib.sha256(f"{sys.version_info[:3]} {ENVIRONMENT}".encode() + REQUIREMENTS.read_bytes()).hexdigest()
    stamp, python = ENVIRONMENT / "made-from.sha256", ENVIRONMENT / "bin" / "python"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        print(f"docs: making {ENVIRONMENT.relative_to(ROOT)} from {REQUIREMENTS.relative_to(ROOT)} (once)", flush=True)
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(ENVIRONMENT)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install", "--require-hashes"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS, check=True)
        stamp.write_text(wanted)
    return python


def main(arguments: Sequence[str]) -> int:
    """Build the site, or with `--serve` show it and follow edits of mkdocs.yml; 1 with the reason when it fails."""
    try:
        python = environment()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"docs: {error}\nRemedy: a source of Python packages in reach; pip's own settings name it.", file=sys.stderr)
        return 1
    copy_pages()
    settings = BUILD / "mkdocs.yml"
    nav = navigation((ROOT / CONTENTS).read_text(encoding="utf-8"))
    changed = {"INHERIT": "../mkdocs.yml", "docs_dir": str(SOURCE), "site_dir": str(SITE), "nav": nav}
    settings.write_text(json.dumps(changed, indent=1), encoding="utf-8")
    command = ["serve", "--dev-addr", "127.0.0.1:0"] if "--serve" in arguments else ["build", "--strict"]
    plain = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    done = subprocess.run([python, "-m", "mkdocs", *command, "-f", settings], cwd=ROOT, env=plain, check=False)
    if done.returncode == 0:
        print(f"docs: {SITE.relative_to(ROOT)}/index.html")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
