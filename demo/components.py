"""Gradio components for untrusted input, and the page's style."""

from __future__ import annotations

import functools
import html
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # before gradio is imported

import gradio as gr
from gradio import component_meta
from gradio_client.utils import is_http_url_like
from PIL import Image

from projects.common.errors import InputError

from .uploads import MAX_BYTES, read_image

__all__ = ['ImageUpload', 'launch', 'shown_errors', 'table']

warnings.filterwarnings('ignore', '.*HTTP_422.*', module='gradio')  # from starlette

# Otherwise gradio writes a .pyi file next to this one for the class below.
component_meta.create_or_modify_pyi = lambda *_: None

# The turbo gradient is the score map's colour map; orange is the colour of its box.
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto !important}
.legend {font-size: .9rem; line-height: 1.6}
.legend .box {display: inline-block; width: 1.1em; height: .8em; border: 2px solid #ff7a00}
.legend .turbo {display: inline-block; width: 7em; height: .8em; border-radius: 3px;
  background: linear-gradient(90deg, #30123b, #4662d7, #36aaf9, #1ae4b6, #72fe5e, #c8ef34, #faba39,
  #f66b19, #cb2a04, #7a0403)}
.answers, .answers tr {border: 0 !important}
.answers {width: 100%; border-collapse: collapse; font-size: .92rem}
.answers th, .answers td {text-align: left; padding: .4em .8em; border: 0 !important;
  border-bottom: 1px solid #d9dee6 !important}
.answers td {font-variant-numeric: tabular-nums}
.example {justify-content: flex-start !important; text-align: left !important}
.example img {width: 56px !important; height: 56px !important; border-radius: 4px}
.example.picture {justify-content: center !important}
.caption-label {font-size: .75rem !important; max-width: 100% !important}
footer {display: none !important}
"""


class ImageUpload(gr.Image):
    """Pass on only images that `read_image` accepts; gr.Image itself decodes any size."""

    is_template = True  # rendered as gr.Image

    def preprocess(self, payload: Any) -> Image.Image:
        if payload is None or not payload.path:
            raise _refusal('Please give an image first.')
        try:
            return read_image(payload.path)
        except InputError as error:
            raise _refusal(error) from error

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
        """Refuse URLs: gradio would download whatever a request names."""
        if is_http_url_like(str(url_or_file_path)):
            raise _refusal('URLs are not read; download the image and upload it.')
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def shown_errors(function: Callable) -> Callable:
    """Show the user's errors on the page; all others stay in the server's log."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except InputError as error:
            raise _refusal(error) from error

    return run


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table that shows the content of its cells verbatim."""

    def line(tag: str, cells: Sequence[str]) -> str:
        # Escape $ and {, too: gradio's templates interpret them.
        plain = [html.escape(cell).replace('$', '&#36;').replace('{', '&#123;') for cell in cells]
        return '<tr>' + ''.join(f'<{tag}>{cell}</{tag}>' for cell in plain) + '</tr>'

    lines = [line('th', headers), *(line('td', row) for row in rows)]
    return f'<table class="answers">{"".join(lines)}</table>'


def _refusal(message: object) -> gr.Error:
    """Return an error that the page shows until it is closed."""
    return gr.Error(html.escape(str(message)), duration=None, print_exception=False)


def launch(page: gr.Blocks, host: str, port: int | None) -> str:
    """Serve the page in threads, without loading remote resources, and return its URL.

    Raises:
        OSError: The port is already in use.
    """
    fonts = dict(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
    _, url, _ = page.launch(
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
        quiet=True,  # otherwise gradio offers to share the page
        prevent_thread_lock=True,
    )
    return url
