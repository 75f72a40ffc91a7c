"""Import the OpenMMLab libraries without notices that users cannot act on.

Importing this module imports them. All other output is passed on.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings

_PRINTED_AT_IMPORT = 'Could not import OneDL'  # an optional service of OpenMMLab
_WARNED_AT_IMPORT = 'faster_coco_eval is not installed'  # an optional metric


def _import_quietly(*modules: str) -> None:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings('ignore', message=_WARNED_AT_IMPORT)
            for module in modules:
                importlib.import_module(module)
    finally:
        for line in printed.getvalue().splitlines():
            if not line.startswith(_PRINTED_AT_IMPORT):
                print(line)


_import_quietly('mmdet.datasets', 'mmdet.evaluation', 'mmdet.models', 'mmpretrain.datasets')
