"""What gradio lacks for strangers' input, and how the page looks."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Callable
from typing import Any

os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # before gradio is imported

import gradio as gr
from gradio import component_meta
from gradio_client.utils import is_http_url_like
from PIL import Image

from projects.common.cli import UserError

from .uploads import MAX_BYTES, read_picture

__all__ = ['PictureInput', 'launch', 'shown_errors']

# gradio would write a .pyi file beside this one for the class below.
component_meta.create_or_modify_pyi = lambda *_: None

# The turbo gradient is the colour map of the score map, orange the colour of its box.
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto !important}
.legend {font-size: .9rem; line-height: 1.6}
.legend .box {display: inline-block; width: 1.1em; height: .8em; border: 2px solid #ff7a00;
  background: #ff7a0080}
.legend .turbo {display: inline-block; width: 7em; height: .8em; border-radius: 3px;
  background: linear-gradient(90deg, #30123b, #4662d7, #36aaf9, #1ae4b6, #72fe5e, #c8ef34, #faba39,
  #f66b19, #cb2a04, #7a0403)}
footer {display: none !important}
"""


class PictureInput(gr.Image):
    """gr.Image that hands over what `read_picture` admits; gradio's own decodes any size."""

    is_template = True  # drawn as gr.Image

    def preprocess(self, payload: Any) -> Image.Image:
        if payload is None or not payload.path:
            raise _refusal('Please give a picture first.')
        try:
            return read_picture(payload.path)
        except UserError as error:
            raise _refusal(error) from error

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
        """Without downloads: gradio would fetch what a request names."""
        if is_http_url_like(str(url_or_file_path)):
            raise _refusal('URLs are not read; download the picture and upload it.')
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def shown_errors(function: Callable) -> Callable:
    """Shows the user's errors; others stay in the log of the server."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UserError as error:
            raise _refusal(error) from error

    return run


def _refusal(message: object) -> gr.Error:
    """An error that the page shows until it is closed."""
    return gr.Error(html.escape(str(message)), duration=None, print_exception=False)


def launch(page: gr.Blocks, host: str, port: int | None, **kwargs: Any) -> Any:
    """Serves the page on an address; nothing is fetched from, or sent to, another."""
    fonts = dict(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
    return page.launch(
        server_name=host,
        server_port=port,
        share=False,
        theme=gr.themes.Soft(primary_hue='orange', neutral_hue='slate', **fonts),
        css=CSS,
        footer_links=[],
        max_file_size=MAX_BYTES,
        allowed_paths=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        **kwargs,
    )
