"""What all pages have in common: one HTML file, light or dark, that loads nothing."""

import base64
from collections.abc import Iterable

from tf_cutnmix import escaping

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --faint: #5a5f66; --paper: #fff; --rule: #dfe3e8;
  --hover: #f2f5f8; --box: #f6f7f9; --teacher: #0b5fa5; --peer: #d9822b; --edge: #c77700;
  --warn: #8a5200; --warn-box: #fff6e6; --calm: #3f6b3f; --calm-box: #f3f8f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --faint: #a3abb5; --paper: #15181c; --rule: #353b43; --hover: #1f242a;
    --box: #1d2126; --teacher: #5fb0f0; --peer: #e9a35c; --warn: #f0b860; --warn-box: #2a2214;
    --calm: #9fcf9f; --calm-box: #18211a; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 76rem; margin: 2.5rem auto; padding: 0 1.5rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin-bottom: .3rem; }
h2 { font-size: 1.12rem; margin: 2.4rem 0 .6rem; }
a { color: var(--teacher); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th, td { padding: .32rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; white-space: normal;
  min-width: 9rem; max-width: 24rem; }
tbody tr:hover { background: var(--hover); }
.scroll { overflow-x: auto; max-width: 100%; }
.note, .summary { color: var(--faint); font-size: .85rem; max-width: 62rem; margin: .45rem 0; }
.warnings { border-left: 5px solid var(--edge); background: var(--warn-box); margin-bottom: 1rem;
  padding: .6rem 1.2rem; }
.warnings h2 { margin: .2rem 0 .3rem; color: var(--warn); }
.warnings ul { margin: .2rem 0; padding-left: 1.2rem; }
.quiet { border-color: var(--calm); background: var(--calm-box); }
.quiet h2 { color: var(--calm); }
figure { margin: 1rem 0; }
details { border-top: 1px solid var(--rule); padding: .4rem 0; }
summary { cursor: pointer; }
details h2 { font-size: 1rem; margin-top: 1.6rem; }
svg { max-width: 100%; height: auto; font-family: system-ui, sans-serif; }
img { max-width: 100%; height: auto; }
.wide svg { min-width: 44rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0; padding: 0; }
.facts div { background: var(--box); border-radius: 6px; padding: .6rem .9rem; }
.facts dt { color: var(--faint); font-size: .82rem; }
.facts dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.pictures.curves { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.pictures figure { margin: 0; background: var(--box); border-radius: 6px; padding: .6rem; }
.pictures img { width: 100%; aspect-ratio: 1; object-fit: contain; display: block; }
.pictures figcaption { font-size: .82rem; margin-top: .4rem; }
.pixels img, img.pixels { image-rendering: pixelated; }
pre { background: var(--box); padding: .8rem 1rem; font-size: .8rem; white-space: pre-wrap; }
pre.columns { columns: 18rem; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; padding: 0 .9rem; }
  h1 { font-size: 1.35rem; }
  table { font-size: .82rem; }
  th, td { padding: .3rem .5rem; }
  th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper);
    min-width: 7rem; max-width: 11rem; }
  .facts { grid-template-columns: repeat(2, 1fr); }
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .pictures.curves { grid-template-columns: minmax(0, 1fr); } }
""".strip()


def page(title: str, body: Iterable[str]) -> str:
    """A whole page that needs nothing else.

    Args:
      title: as text.
      body: elements, in their order.
    """
    content = "\n".join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaping.html(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n{content}\n</body>\n</html>\n"
    )


def name(text: str) -> str:
    """A name that others chose; one that is written from right to left turns nothing round."""
    return f"<bdi>{escaping.html(text)}</bdi>"


def picture(content: bytes, kind: str, shows: str) -> str:
    """A picture inside the page.

    Args:
      content: of the file.
      kind: "png" or "jpeg".
      shows: what is in it, for those who cannot see it.
    """
    data = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/{kind};base64,{data}" alt="{escaping.html(shows)}">'


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escaping.html(text)}</h2>"


def scrolled(element: str, wide: bool = False) -> str:
    """What may be wider than a phone, in a box of its own; a wide drawing is never made narrow."""
    return f'<div class="scroll{" wide" if wide else ""}">\n{element}\n</div>'


def code(lines: Iterable[str]) -> str:
    """Lines of settings in columns."""
    return '<pre class="columns">' + "\n".join(map(escaping.html, lines)) + "</pre>"


def captioned(picture: str, caption: str) -> str:
    """A figure: elements, and other elements below."""
    return f"<figure>\n{picture}\n<figcaption>{caption}</figcaption>\n</figure>"


def gallery(figures: Iterable[str], more: str = "") -> str:
    """Figures side by side, as many in a row as there is room for."""
    classes = f"pictures {more}".strip()
    return f'<div class="{classes}">\n' + "\n".join(figures) + "\n</div>"


def warnings(lines: Iterable[str]) -> str:
    """A section that says what is missing or unequal, a line each, or that nothing is."""
    items = "".join(f"<li>{escaping.html(line)}</li>\n" for line in lines)
    content = f"<ul>\n{items}</ul>" if items else "<p>None.</p>"
    quiet = "" if items else " quiet"
    return f'<section class="warnings{quiet}"><h2>Warnings</h2>\n{content}</section>'
