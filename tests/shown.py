# SPDX-License-Identifier: Apache-2.0
"""What the documentation shows: its pages, the commands to type and the blocks of each kind."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.rst"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language, in order and without their indentation."""
    text = page.read_text()
    if page.suffix == ".md":
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    opening = rf"^( *)\.\. code-block:: {language}\n(?:\1   :.*\n)*\n"
    found = re.finditer(rf"{opening}((?:\1   .*\n|\n)+)", f"{text}\n", re.MULTILINE)
    return [textwrap.dedent(match[2]).strip() for match in found]


def commands(page: Path) -> list[str]:
    """What stands behind a prompt, each command on one line; in README, each line."""
    lines = "\n".join(blocks(page, "console")).replace("\\\n", " ").splitlines()
    prompt = re.compile(r"[$#] " if page.suffix == ".rst" else "")
    typed = [line[found.end() :] for line in lines if (found := prompt.match(line))]
    return [re.sub(r"\s+", " ", line.partition("  # ")[0]).strip() for line in typed if line]
