"""Exported models: writing ONNX files, converting them, and running them without PyTorch.

:mod:`.export` and :mod:`.pixels` need PyTorch and write the files. Everything else here needs
NumPy, OpenCV, Pillow, onnxruntime and, for sentences, ``tokenizers`` or ``nltk``.
"""

import os

# Before onnxruntime is imported: its telemetry would send data, and the thread that does so draws
# from C's rand(), by which OpenCV's Selective Search ranks its boxes.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
