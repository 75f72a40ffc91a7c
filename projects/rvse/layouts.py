"""Checkpoint layouts read by RVSE's converter."""

from projects.common.weights.layouts import Layout

LAYOUTS = (
    Layout(
        'a released checkpoint of VSE-infinity, RVSE++, SCAN, BFAN or SGRAF',
        'tools/model_converters/rvse.py',
        (r'0:(module\.)?fc\.weight', r'1:(module\.)?(embed|bert)\.'),
    ),
)
