"""Checkpoint layouts that the PLVL converters recognize."""

from projects.common.weights.layouts import Layout

LAYOUTS = (
    Layout(
        'a released PLVL checkpoint',
        'tools/model_converters/plvl.py',
        (r'textmodel\.bert\.', r'visumodel\.', r'bbox_embed\.conv1_ctr\.'),
    ),
    Layout('a released EEVG checkpoint', None, (r'textmodel\.bert\.', r'visumodel\.')),
    Layout(
        "a ViTDet checkpoint of detectron2's",
        'tools/model_converters/vitdet.py',
        (r'backbone\.net\.blocks\.\d+\.attn\.rel_pos_h',),
    ),
)
