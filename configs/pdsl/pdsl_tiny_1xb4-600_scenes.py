# Train a small PDSL on synthetic scenes: `make quickstart PROJECT=pdsl`. Not in the paper.
_base_ = [
    './_base_/pdsl_tiny.py',
    '../_base_/datasets/scenes_tags_128.py',
    '../_base_/schedules/pdsl_muon_600i.py',
    './_base_/runtime_iters.py',
]
model = dict(
    # One iteration of GrabCut segments these scenes as well as five.
    cue=dict(
        _delete_=True,
        type='CachedCue',
        cue=dict(type='GrabCutCue', iterations=1),
        folder='{{$SCENES_ROOT:data/scenes}}/cues',
    ),
    roi_head=dict(num_seeds=3),
    test_cfg=dict(rcnn=dict(score_thr=0.01)),
)
default_hooks = dict(checkpoint=dict(interval=300))
auto_scale_lr = dict(enable=False, base_batch_size=4)
