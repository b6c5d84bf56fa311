"""A page to try an export in: a picture is dropped or taken, the answer is shown. By Gradio."""

import io
import pathlib

import gradio
from PIL import Image, ImageOps

from tf_cutnmix import escaping, predicting
from tf_cutnmix.data import pictures
from tf_cutnmix.networks.served import Served

_SIDE, _HEIGHT, _LONGEST = 480, 320, 60
# Of the reader's system: the page loads nothing from elsewhere.
_FONTS = ("system-ui", "sans-serif")

Shown = tuple[dict[str, float], Image.Image | None]


def answer(export: Served, picture: str) -> Shown:
    """What an export says of a picture's file, and the picture with what speaks for that.

    Returns:
      The most probable classes with their probabilities; the picture, None where the export does
      not tell.

    Raises:
      gradio.Error: the file cannot be read.
    """
    path = pathlib.Path(picture)
    (found,) = predicting.ask(export, [path], batch_size=1)
    if found.problem:
        raise gradio.Error(found.problem)
    classes = {escaping.one_line(name, _LONGEST): part for name, part in found.classes}
    heatmap = export.model.signatures.get("heatmap")
    if heatmap is None:
        return classes, None
    seen = pictures.by_pillow(path.read_bytes())
    shown = ImageOps.contain(seen, (_SIDE, _SIDE)).convert("RGBA")
    heat = Image.open(io.BytesIO(predicting.looked_at(heatmap, seen, shown.size)))
    return classes, Image.alpha_composite(shown, heat)


def serve(export: Served, name: str, port: int) -> tuple[gradio.Blocks, str]:
    """Serve the page to this machine alone; it, to be closed, and its address.

    Args:
      export: that answers.
      name: what it is called on the page.
      port: 0 for the first one from 7860 on that is free.

    Raises:
      OSError: the port is not free.
    """
    tells = "heatmap" in export.model.signatures
    page = gradio.Interface(
        lambda picture: answer(export, picture) if picture else (None, None),
        # The file as it is: what `predict` reads.
        gradio.Image(
            label="Picture",
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam"],
            height=_HEIGHT,
        ),
        [
            gradio.Label(label="Answer"),
            gradio.Image(
                label="What speaks for it",
                type="pil",
                visible=tells,
                height=_HEIGHT,
                # None that sends it elsewhere.
                buttons=["fullscreen", "download"],
            ),
        ],
        title=escaping.one_line(name, _LONGEST),
        live=True,
        flagging_mode="never",
        analytics_enabled=False,
    )
    _, address, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port or None,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        footer_links=[],
        theme=gradio.themes.Default(font=_FONTS, font_mono=_FONTS),
    )
    return page, address
