# Scenes of 128 x 128 pixels, enlarged: objects of the size that a pretrained backbone knows.
_base_ = './scenes_tags_128.py'
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
for pipeline in (train_pipeline, test_pipeline):
    for step in pipeline:
        if step['type'] == 'mmdet.Resize':
            step['scale'] = (256, 256)
        elif step['type'] == 'ProjectProposals':
            step['min_side'] = 16
del pipeline, step
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
