# What PLVL is pre-trained on, boxes only, at 448 x 448 pixels: mixed_coco_448.py with ReferItGame,
# Flickr30K Entities and Visual Genome, less every picture of a val or test split of any of them.
# DATA_ROOT holds, beside RefCOCO, RefCOCO+ and RefCOCOg: referit/referit_*.pth,
# flickr30k_entities/, visual_genome/ (region_descriptions.json, image_data.json), and
# images/{saiapr,flickr30k,visual-genome}/.
_base_ = './mixed_coco_448.py'
dataset = dict(data_root=_base_.data_root, skip_invalid=True)
train_dataloader = dict(
    dataset=dict(
        datasets=[
            *_base_.train_dataloader.dataset.datasets,
            dict(
                type='TransVGGroundingDataset',
                ann_file='referit/referit_train.pth',
                data_prefix=dict(img='images/saiapr/'),
                **dataset,
            ),
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
            *_base_.train_dataloader.dataset.exclude,
            *(
                dict(type=kind, ann_file=ann_file, **dataset)
                for kind, ann_file in (
                    ('TransVGGroundingDataset', 'referit/referit_val.pth'),
                    ('TransVGGroundingDataset', 'referit/referit_test.pth'),
                    ('Flickr30kEntitiesDataset', 'flickr30k_entities/val.txt'),
                    ('Flickr30kEntitiesDataset', 'flickr30k_entities/test.txt'),
                )
            ),
        ],
    )
)
