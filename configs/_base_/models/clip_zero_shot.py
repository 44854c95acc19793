"""CLIP zero-shot: the mean of the frame vectors against a sentence with the class's name.

From the paper (the comparison in Align-DFER's table): the sentence, the mean. Ours: ViT-B/32 and
OpenAI's weights. Several ``templates`` are averaged.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='ClassNameHead', templates=['an expression of {}']),
)
