"""Define CoOp: 16 learned tokens before the name of each class, compared with the mean over frames.

The paper gives 16 tokens that all classes share. ``class_specific=True`` gives each class its own
tokens. Our choice: the vectors of the frames are averaged, because the paper is about images, and
CLIP is ViT-B/32 with OpenAI's weights.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='CoOpHead', num_tokens=16, class_specific=False),
)
