"""Define zero-shot CLIP, which compares the mean frame vector with a sentence about each class.

Our choices, because the papers that compare with zero-shot CLIP print neither: the sentence, and
the mean over the frames. Also our choice: ViT-B/32 with OpenAI's weights. If several ``templates``
are given, the vectors of their sentences are averaged.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='ClassNameHead', templates=['an expression of {}']),
)
