"""Define FineCLIPER, a reconstruction: adapters in CLIP, texts of two sides, and three levels.

From the paper (arXiv 2407.02157): a positive and a negative sentence for each class, and three
levels: frames, face parts with landmarks, and a description of the clip. From second-hand notes:
CLIP ViT-B/16 with trained adapters. No code exists, and the paper's text beyond its abstract could
not be read.

All else is our choice, as docs/methods.md explains. The adapters of the image tower are those of
AIM with a width of 192, and the text tower has LoRA of rank 8, because captions and classes would
otherwise have no trained part. The temporal transformer of DFER-CLIP reads the frame vectors in
their order, because the adapters alone hardly learn the direction of a change (docs/methods.md).
Its positions are drawn with a standard deviation that suits vectors of unit length. The score is
the difference of the two similarities. Parts pass through the same weights as the frames. Each
level trains by its own loss, and one learned scalar for each level weighs them.
"""

model = dict(
    type='FineCLIPER',
    backbone=dict(
        type='FrozenCLIP',
        arch='ViT-B-16-quickgelu',
        weights='openai',
        adapter=dict(type='AIMAdapter', width=192, num_frames=16),
        text_adapter=dict(type='LoRA', rank=8),
        checkpointing=True,
    ),
    neck=dict(type='TemporalTransformer', num_frames=16, std=0.02),
    cls_head=dict(type='TwoSidedHead', score='difference', loss='softmax'),
    levels=('frames', 'parts', 'caption'),
    fusion='learned',
)
