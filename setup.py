"""What setup.cfg cannot say: how the README's links work on the page of a package index.

They are relative, so that they lead to the files of a clone. Where `project_urls` in setup.cfg has
a `Source`, a repository of GitHub's kind, they lead there; else they are left as their words, and
pictures left out.
"""

import configparser
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


def without_relative_links(markdown: str, source: str) -> str:
    """Markdown whose relative links lead to `source`, the address of a repository or ""."""

    def changed(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        if not source:
            return "" if picture else words
        return f"{picture}[{words}]({source}/{'raw' if picture else 'blob'}/HEAD/{path})"

    parts = _FENCED.split(markdown)  # text, a fenced block, text, ...
    return "".join(
        part if number % 2 else _RELATIVE.sub(changed, part) for number, part in enumerate(parts)
    )


def source_url() -> str:
    """The `Source` of `project_urls` in setup.cfg, "" where there is none."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = re.search(r"^Source = (\S+?)/?$", setup["metadata"].get("project_urls", ""), re.M)
    return named[1] if named else ""


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text()
    setuptools.setup(long_description=without_relative_links(readme, source_url()))
