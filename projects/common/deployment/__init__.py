"""Exported models: writing ONNX files, converting them, and running them without PyTorch.

:mod:`.export` and :mod:`.pixels` need PyTorch and write the files. Everything else here needs
NumPy, OpenCV, Pillow, MMEngine, onnxruntime and, for sentences, ``tokenizers`` or ``nltk``.
"""
