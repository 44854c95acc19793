"""CLIPER: several learned text descriptors for each class, and an image tower that trains.

From the authors' code (muse1998/CLIPER, for RAF-DB): ViT-B/16 with OpenAI's weights, 5 descriptors
for each class, "an ID photo of", 4 learned tokens and a full stop; a class scores the mean of its 5
cosines; the margin loss and the fine-grained loss; cosines over 0.01. Ours: a clip is the mean of
its unit frame vectors (no code for video is public).
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(
        type='FrozenCLIP', arch='ViT-B-16-quickgelu', weights='openai', trains=[r'^visual\.']
    ),
    cls_head=dict(type='CLIPERHead', num_classes=7, num_prompts=5, num_tokens=4, temperature=0.01),
)
