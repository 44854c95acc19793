"""Write small trees of files in the layouts of the licensed datasets, with their true labels.

The trees are not made by mmdfer.synthetic, since its idea of the layouts would then be tested
against itself. Each picture is random noise of 8 x 8 pixels.
"""

from __future__ import annotations

import io
import json
import os
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

DFEW = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
MAFW = ('anger', 'disgust', 'fear', 'happiness', 'neutral', 'sadness', 'surprise')
MAFW += ('contempt', 'anxiety', 'helplessness', 'disappointment')
FERV39K = ('Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear')
# fmt: off
SCENES = (
    'Action', 'Argue', 'Business', 'Conflict', 'Contest', 'Crime', 'Crisis', 'DailyLife',
    'ElegantArt', 'Experiment', 'History', 'Interview', 'Liveshow', 'Medicine', 'OfficialEvent',
    'ScholarReport', 'School', 'Social', 'Speech', 'Talkshow', 'Terror', 'War',
)
# fmt: on
COMPOUND = ('anger_disgust', 'sadness_anxiety_helplessness', 'fear_surprise')

# The number of clips of each class. All numbers differ, so that any other order of the classes has
# other counts.
SIZES = (6, 7, 11, 9, 8, 5, 10, 12, 13, 14, 15)


def _picture(seed: int) -> bytes:
    """Draw coloured noise: BatchNorm has huge gradients on flat or identical pictures."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, 'jpeg')
    return file.getvalue()


PICTURE = _picture(0)


@dataclass
class Tree:
    """Describe a tree of files.

    Attributes:
        root: The folder of the tree.
        truth: The label of each clip, by (split, fold); the fold is 0 for a dataset without folds.
        counts: The number of clips of each class, by the package's key of a split and fold.
    """

    root: Path
    truth: dict[tuple[str, int], dict[str, int]]
    counts: dict[str, list[int]] = field(default_factory=dict)

    def mark(self) -> None:
        """Write the marker whose numbers of clips replace those of the published dataset."""
        marker = dict(layout='test', note='a test', counts=self.counts)
        (self.root / 'synthetic.json').write_text(json.dumps(marker))


def write(path: Path, text: str | bytes, encoding: str = 'utf-8') -> None:
    """Write a file, and create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))


def pictures(folder: Path, names: list[str]) -> None:
    """Write a clip as a folder of pictures that all differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(_picture(zlib.crc32(f'{folder.name}/{name}'.encode())))


def folds(labels: Mapping[str, int], rng: random.Random) -> dict[tuple[str, int], dict[str, int]]:
    """Split the clips into five folds, with each class in each test set."""
    test: dict[str, int] = {}
    for label in set(labels.values()):
        clips = sorted(clip for clip, other in labels.items() if other == label)
        rng.shuffle(clips)
        test |= {clip: i % 5 + 1 for i, clip in enumerate(clips)}
    return {
        (split, fold): {
            clip: label
            for clip, label in labels.items()
            if (test[clip] == fold) == (split == 'test')
        }
        for fold in range(1, 6)
        for split in ('train', 'test')
    }


def tally(labels: Mapping[str, int], classes: int) -> list[int]:
    """Count the clips of each class."""
    return [list(labels.values()).count(label) for label in range(classes)]


def _numbered(classes: int, rng: random.Random, first: int, last: int) -> dict[str, int]:
    ids = rng.sample(range(first, last), sum(SIZES[:classes]))
    labels = [label for label in range(classes) for _ in range(SIZES[label])]
    return {f'{number:05d}': label for number, label in sorted(zip(ids, labels, strict=True))}


def dfew(root: Path, seed: int = 0, media: bool = True) -> Tree:
    """Write DFEW: official lists with labels from 1, and frames with gaps in their numbers."""
    rng = random.Random(seed)
    labels = _numbered(7, rng, 1, 3200)
    tree = Tree(root, folds(labels, rng))
    for (split, fold), clips in tree.truth.items():
        rows = ''.join(f'{clip},{label + 1}\n' for clip, label in clips.items())
        path = root / 'EmoLabel_DataSplit' / f'{split}(single-labeled)' / f'set_{fold}.csv'
        write(path, 'video_name,label\n' + rows)
        tree.counts[f'{split}/{fold}'] = tally(clips, 7)
    for clip in labels if media else ():
        frames = sorted(rng.sample(range(1, 60), 3))
        names = [f'{clip}_{frame:05d}.jpg' for frame in frames]
        pictures(root / 'Clip' / 'clip_224x224' / clip, names)
    tree.mark()
    return tree


def ferv39k(root: Path, seed: int = 0, media: bool = True) -> Tree:
    """Write FERV39k: official lists without a header, and face crops."""
    rng = random.Random(seed)
    labels, test = {}, set()
    for label, word in enumerate(FERV39K):
        for i in range(44 + SIZES[label]):
            clip = f'{SCENES[i % 22]}/{word}/{rng.randint(0, 99) * 100 + i:04d}'
            labels[clip] = label
            test |= {clip} if i < 22 else set()
    tree = Tree(
        root,
        {
            ('train', 0): {c: n for c, n in labels.items() if c not in test},
            ('test', 0): {c: n for c, n in labels.items() if c in test},
        },
    )
    for (split, _), clips in tree.truth.items():
        lines = [f'{clip} {FERV39K[label]}\n' for clip, label in clips.items()]
        write(root / '4_setups' / 'All_scenes' / f'{split}_All.csv', ''.join(lines))
        for scene in SCENES:
            some = ''.join(line for line in lines if line.startswith(scene))
            write(root / '4_setups' / '22_scenes' / f'{split}_{scene}.csv', some)
        tree.counts[split] = tally(clips, 7)
    for clip in labels if media else ():
        pictures(root / '2_ClipsforFaceCrop' / clip, ['00.jpg', '01.jpg'])
    tree.mark()
    return tree


def mafw(root: Path, seed: int = 0, media: bool = True) -> Tree:
    """Write MAFW: lists of all four kinds, and frames; the truth is that of single/no_caption."""
    rng = random.Random(seed)
    labels = _numbered(11, rng, 19, 20098)
    tree = Tree(root, folds(labels, rng))
    several = {f'{20100 + i}': 11 + i % len(COMPOUND) for i in range(15)}
    words = (*MAFW, *COMPOUND)
    kinds = {
        'single/no_caption': tree.truth,
        'single/with_caption': folds({c: n for c, n in labels.items() if n != 4}, random.Random(1)),
        'compound/no_caption': folds({**labels, **several}, random.Random(2)),
        'compound/with_caption': folds({**labels, **several}, random.Random(3)),
    }
    for kind, truth in kinds.items():
        for (split, fold), clips in truth.items():
            rows = [f'{clip}.mp4 {words[label]}' for clip, label in clips.items()]
            encoding = 'ascii'
            if kind.endswith('with_caption'):
                rows = [
                    f'{r.replace(" ", chr(9))}\t他在说话。\tA man, {r[:5]}, talks.' for r in rows
                ]
                encoding = 'gb18030'
            path = root / 'Train & Test Set' / kind / f'set_{fold}' / f'{split}.txt'
            write(path, ''.join(f'{row}\r\n' for row in rows), encoding)
            whole = tally(clips, 11) if kind.startswith('single') else [len(clips)]
            tree.counts[f'{kind}/{split}/{fold}'] = whole
    for clip in (labels | several) if media else ():
        pictures(root / 'data' / 'frames' / clip, [f'{i:04d}.png' for i in (1, 2, 5)])
    tree.mark()
    return tree


MAKERS = dict(dfew=dfew, ferv39k=ferv39k, mafw=mafw)


def move(root: Path, old: str, new: str) -> None:
    """Move a file or folder from ``old`` to ``new``, both relative to a root."""
    target = root / new
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(root / old, target)
