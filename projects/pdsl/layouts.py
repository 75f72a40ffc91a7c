"""Checkpoint layouts that PDSL's converter can read."""

from projects.common.weights.layouts import Layout

_TOOL = 'tools/model_converters/pdsl.py'
LAYOUTS = (
    Layout(
        'a released PDSL checkpoint',
        _TOOL,
        (r'backbone\.stem\.conv1\.weight', r'roi_heads\.box_(predictor|refinery)'),
    ),
    Layout(
        "a ResNet-WS of the released code's ImageNet training (.pth)",
        _TOOL,
        (r'backbone\.stem\.conv1\.norm\.', r'backbone\.res2\.'),
    ),
    Layout(
        'a ResNet-WS in the names of Caffe2 (.pkl)',
        _TOOL,
        (r'stem_conv1_w', r'stem_conv1_bn_'),
    ),
)
