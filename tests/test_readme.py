"""The README is short, and leads to the rest. What it shows is run by `test_docs`."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_the_page_of_a_newcomer():
    assert len(README.splitlines()) <= 160


def test_it_has_a_picture_and_the_commands_to_begin_with():
    assert re.search(r"!\[.+\]\(docs/cutnmix.png\)", README)
    for command in (
        "pip install . && python -m tf_cutnmix.train --dataset=digits --epochs=100",
        'pip install ".[test]" && pytest',
    ):
        assert f"```bash\n{command}\n```" in README


def test_every_guide_is_reached_from_it():
    guides = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert guides
    assert guides <= set(re.findall(r"\]\((.+?)\)", README))
