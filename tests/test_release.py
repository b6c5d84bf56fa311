"""What is published with the package: its page on an index, its citation, the site."""

import configparser
import pathlib
import re
import runpy

import pytest
import yaml

import tf_cutnmix

ROOT = pathlib.Path(__file__).parents[1]
SETUP = runpy.run_path(str(ROOT / "setup.py"))
PAGE = """![A
picture](docs/a.png) and [two
words](docs/a.md#part), [elsewhere](https://example.org/a), [here](#part).

```python
served["serve_bytes"](bytes=[b""])
```

[a folder](studies/)"""


@pytest.mark.parametrize(
    ("source", "picture", "words", "folder"),
    [
        ("", "", "two\nwords", "a folder"),
        (
            "https://example.org/o/r",
            "![A\npicture](https://example.org/o/r/raw/HEAD/docs/a.png)",
            "[two\nwords](https://example.org/o/r/blob/HEAD/docs/a.md#part)",
            "[a folder](https://example.org/o/r/blob/HEAD/studies/)",
        ),
    ],
)
def test_on_an_index_links_lead_to_the_repository_or_are_words(source, picture, words, folder):
    made = SETUP["without_relative_links"](PAGE, source)
    assert made == (
        f"{picture} and {words}, [elsewhere](https://example.org/a), [here](#part).\n\n"
        f'```python\nserved["serve_bytes"](bytes=[b""])\n```\n\n{folder}'
    )


def test_the_source_is_that_of_setup_cfg(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text()
    made = SETUP["without_relative_links"](readme, SETUP["source_url"]())
    prose = re.sub(r"^```.*?^```$", "", made, flags=re.DOTALL | re.MULTILINE)
    assert all("://" in link for link in re.findall(r"\]\((.+?)\)", prose))
    urls = "[metadata]\nproject_urls =\n    Documentation = https://a\n    Source = https://b/c/\n"
    (tmp_path / "setup.cfg").write_text(urls)
    monkeypatch.setitem(SETUP["source_url"].__globals__, "ROOT", tmp_path)
    assert SETUP["source_url"]() == "https://b/c"


def test_author_and_licence_are_those_of_the_licence():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    licence = (ROOT / "LICENSE").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    author, name = setup["metadata"]["author"], setup["metadata"]["license"]
    assert re.search(rf"Copyright \(c\) \d+ {author}\n", licence)
    assert licence.startswith(f"{name} License\n")
    assert citation["authors"] == [{"name": author}]
    assert citation["license"] == name


def test_the_site_has_every_guide_and_every_public_name():
    navigation = (ROOT / "docs" / "mkdocs.yml").read_text()
    for guide in (ROOT / "docs").glob("*.md"):
        assert f"docs/{guide.name}" in navigation
    shown = re.findall(r"^::: tf_cutnmix\.(\w+)$", (ROOT / "docs/api/README.md").read_text(), re.M)
    assert sorted(shown) == sorted(tf_cutnmix.__all__)
