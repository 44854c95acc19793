"""Define FineCLIPER: adapters in a frozen CLIP, texts that affirm and deny a class, three levels.

From the paper (arXiv 2407.02157): CLIP ViT-B/16 with trained adapters, a positive and a negative
sentence for each class, and three levels: frames, face parts with landmarks, and a description of
the clip. No code exists, and the paper's text beyond its abstract could not be read. Our choice, as
docs/methods.md explains: adapters as in AIM with a width of 192, which has 10.7 million trained
parameters; the difference of the two similarities as the score; parts that pass through the same
weights as the frames; and the weight of a level by the gap between its two largest probabilities.
"""

model = dict(
    type='FineCLIPER',
    backbone=dict(
        type='FrozenCLIP',
        arch='ViT-B-16-quickgelu',
        weights='openai',
        adapter=dict(type='AIMAdapter', width=192, num_frames=16),
        checkpointing=True,
    ),
    cls_head=dict(type='TwoSidedHead', score='difference', loss='softmax'),
    levels=('frames', 'parts', 'caption'),
    fusion='margin',
)
