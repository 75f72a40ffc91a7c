# The corpus of PLVL's pre-training, boxes only, at 448 x 448 pixels: the train splits of RefCOCO,
# RefCOCO+ and RefCOCOg-umd, Flickr30K Entities and Visual Genome, without any image of a val or
# test split of any of them. Validated and tested as mixed_coco_448.py is.
# DATA_ROOT holds, beside RefCOCO, RefCOCO+ and RefCOCOg: flickr30k_entities/, visual_genome/
# (region_descriptions.json, image_data.json), and images/{flickr30k,visual-genome}/.
_base_ = ['./refcoco_448.py', './refcoco_mixed.py']
dataset = dict(data_root=_base_.data_root, skip_invalid=True)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MixedGroundingDataset',
        pipeline=_base_.train_pipeline,
        datasets=[
            *_base_.mixed_splits.train,
            dict(
                type='Flickr30kEntitiesDataset',
                ann_file='flickr30k_entities/train.txt',
                data_prefix=dict(img='images/flickr30k/'),
                **dataset,
            ),
            dict(
                type='VisualGenomeRegionDataset',
                ann_file='visual_genome/region_descriptions.json',
                vg_image_data='visual_genome/image_data.json',
                data_prefix=dict(img='images/visual-genome/'),
                **dataset,
            ),
        ],
        exclude=[
            *_base_.mixed_splits.test,
            *(
                dict(
                    type='Flickr30kEntitiesDataset',
                    ann_file=f'flickr30k_entities/{split}.txt',
                    **dataset,
                )
                for split in ('val', 'test')
            ),
        ],
    )
)
val_dataloader = dict(
    dataset=dict(_base_.test_dataloader.dataset, datasets=_base_.mixed_splits.val, _delete_=True)
)
test_dataloader = dict(dataset=dict(datasets=_base_.mixed_splits.test))
