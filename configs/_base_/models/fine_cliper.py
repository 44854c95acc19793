"""Define FineCLIPER, a reconstruction: adapters in CLIP, texts of two sides, and three levels.

From the paper (arXiv 2407.02157): CLIP ViT-B/16 with trained adapters, a positive and a negative
sentence for each class, and three levels: frames, face parts with landmarks, and a description of
the clip. No code exists, and the paper's text beyond its abstract could not be read.

All else is our choice, as docs/methods.md explains. The adapters of the image tower are those of
AIM with a width of 192, and the text tower has LoRA of rank 8, because captions and classes would
otherwise have no trained part. The score is the difference of the two similarities. Parts pass
through the same weights as the frames. A level has the weight of the gap between its two largest
probabilities, and trains by its own loss too, so that this gap says how much the level knows.
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
    cls_head=dict(type='TwoSidedHead', score='difference', loss='softmax'),
    levels=('frames', 'parts', 'caption'),
    fusion='margin',
    level_loss=1.0,
)
