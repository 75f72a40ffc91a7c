# What PLVL is pre-trained on, boxes only, at 448 x 448 pixels: mixed_coco_448.py with Flickr30K
# Entities and Visual Genome, less every picture of a val or test split of any of them.
# DATA_ROOT holds, beside RefCOCO, RefCOCO+ and RefCOCOg: flickr30k_entities/, visual_genome/
# (region_descriptions.json, image_data.json), and images/{flickr30k,visual-genome}/.
_base_ = './mixed_coco_448.py'
dataset = dict(data_root=_base_.data_root, skip_invalid=True)
train_dataloader = dict(
    dataset=dict(
        datasets=[
            *_base_.train_dataloader.dataset.datasets,
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
