"""Define zero-shot CLIP, which compares the mean frame vector with a sentence about each class.

The sentence and the mean over frames are those of the comparison in the table of Align-DFER's
paper. Our choice: ViT-B/32 with OpenAI's weights. If several ``templates`` are given, the vectors
of their sentences are averaged.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='ClassNameHead', templates=['an expression of {}']),
)
