"""Test the second domain of the synthetic benchmark: its people, clips, pictures and levels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT

from mmdfer.cli.make_synthetic import main as make_synthetic
from mmdfer.datasets import SynthDFER
from mmdfer.errors import DFERError
from mmdfer.levels import levels_path, read_captions, read_levels
from mmdfer.synthetic import CLASSES, DOMAINS, PARTS, ClipSpec, benchmark, curves, make_benchmark
from mmdfer.synthetic.comic import COVERS
from mmdfer.synthetic.levels import detect_levels, make_levels, true_levels
from mmdfer.synthetic.small_clip.training_faces import (
    TRAIN,
    VIT_TRAIN,
    draw_face,
    draw_pose,
    stream,
)

FULL = (1400, 700, 140, 70, 0)
SMALL: dict[str, Any] = dict(
    num_train=4, num_test=3, num_train_identities=2, num_test_identities=2, seed=3
)
SHADED, COMIC = DOMAINS['shaded'], DOMAINS['comic']


@pytest.fixture(scope='module')
def specs() -> list[ClipSpec]:
    return COMIC.make_specs(*FULL)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small benchmark of the second domain, with all extras."""
    root = tmp_path_factory.mktemp('domain') / 'synth_comic'
    return make_benchmark(
        root, **SMALL, size=64, workers=1, extras=benchmark.EXTRAS, domain='comic'
    )


# Equal on every machine ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (tuple(SMALL.values()), '71ad784da57a8b5bb7069162bbc4d4123fd5f22094d77ec72bc3f55a6cc8ac66'),
        (FULL, 'a6c85f93e03e41dca0e55fdda86a70dbc7169702b5da643fd5af27170019a924'),
    ],
    ids=['small', 'full'],
)
def test_annotations_are_those_of_every_machine(arguments: tuple, expected: str) -> None:
    faces = COMIC.make_identities(*arguments[2:])
    files = benchmark.annotations(COMIC.make_specs(*arguments), faces, COMIC)
    assert benchmark.annotations_digest(files) == expected


def test_two_makings_draw_the_same_pictures(specs: list[ClipSpec]) -> None:
    faces = COMIC.make_identities(140, 70, 0)
    first, again = (list(COMIC.frames(specs[5], faces[specs[5].identity], 64)) for _ in range(2))
    assert len(first) == specs[5].num_frames
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


# People and clips ---------------------------------------------------------------------------------


def test_no_person_is_in_two_domains_or_in_the_training_of_the_small_clips() -> None:
    faces = {name: domain.make_identities(140, 70, 0) for name, domain in DOMAINS.items()}
    assert all(len(set(map(repr, people.values()))) == 210 for people in faces.values())
    assert set(faces['shaded']).isdisjoint(faces['comic'])
    # A person is known by the resting expression, which has nine or more drawn numbers.
    rests = {name: {face.rest for face in people.values()} for name, people in faces.items()}
    rngs = (
        stream(0, kind, shard, i)
        for kind in (TRAIN, VIT_TRAIN)
        for shard in (0, 1)
        for i in range(40)
    )
    seen = {draw_face(rng, draw_pose(rng)).identity.rest for rng in rngs}
    assert rests['shaded'].isdisjoint(rests['comic'])
    assert seen.isdisjoint(rests['shaded'] | rests['comic'])


def test_clips_of_the_domains_have_the_same_classes_and_kinds(specs: list[ClipSpec]) -> None:
    others = SHADED.make_specs(*FULL)
    for split in ('train', 'test'):
        first, second = (
            sorted((s.label, s.kind) for s in clips if s.split == split)
            for clips in (others, specs)
        )
        assert first == second
    assert {s.seed for s in specs}.isdisjoint({s.seed for s in others})
    parts = {p: {s.identity for s in specs if s.part == p} for p in ('fit', 'heldout', 'test')}
    assert [len(parts[p]) for p in ('fit', 'heldout', 'test')] == [112, 28, 70]
    assert len(set.union(*parts.values())) == 210


def test_every_parameter_of_a_clip_is_recorded(root: Path) -> None:
    rows = [json.loads(line) for line in (root / 'clips.jsonl').read_text().splitlines()]
    assert all({'glasses', 'cover', 'quality', 'ink'} <= row['style'].keys() for row in rows)
    assert all(row['shot']['noise'] == 0 for row in rows)
    assert json.loads((root / 'benchmark.json').read_text())['arguments']['domain'] == 'comic'


# Pictures -----------------------------------------------------------------------------------------


def draw_apexes(name: str, count: int = 12) -> np.ndarray:
    """Return one frame of each of the first training clips, with most activity, as float."""
    domain = DOMAINS[name]
    faces = domain.make_identities(140, 70, 0)
    pictures = []
    for spec in domain.make_specs(*FULL)[:count]:
        aus = curves(spec)
        number = int(aus.sum(1).argmax())
        pictures.append(domain.draw(spec, faces[spec.identity], aus[number], number, 112))
    return np.stack(pictures).astype(float)


def test_pictures_of_the_domains_differ() -> None:
    shaded, comic = draw_apexes('shaded'), draw_apexes('comic')
    # The ground of a comic has dots: neighbouring pixels of the upper edge differ.
    edges = [np.abs(np.diff(pictures[:, :6], axis=2)).mean() for pictures in (shaded, comic)]
    assert edges[1] > 3 * edges[0]
    saturation = [
        np.mean([cv2.cvtColor(p.astype(np.uint8), cv2.COLOR_RGB2HSV)[..., 1] for p in pictures])
        for pictures in (shaded, comic)
    ]
    assert saturation[1] > 1.15 * saturation[0]


@pytest.mark.parametrize('cover', COVERS[1:])
def test_what_covers_the_face_is_background_of_the_masks(
    cover: str, specs: list[ClipSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = COMIC.make_identities(140, 70, 0)
    spec = next(s for s in specs if COMIC.to_json(s)['style']['cover'] == cover)
    face, aus = faces[spec.identity], curves(spec)[9]
    covered, marks = COMIC.draw_parts(spec, face, aus, 9, 112)
    shot, style = COMIC._sample(spec)
    bare = dataclasses.replace(style, cover='nothing', glasses=False)
    monkeypatch.setattr(COMIC, '_sample', lambda spec: (shot, bare), raising=False)
    free, same = COMIC.draw_parts(spec, face, aus, 9, 112)
    changed = covered != free
    assert changed.any() and (covered[changed] == PARTS.index('background')).all()
    np.testing.assert_array_equal(marks, same)
    assert changed.mean() < 0.2  # most of the face is visible


# Files --------------------------------------------------------------------------------------------


def test_the_benchmark_is_complete(root: Path) -> None:
    specs = COMIC.make_specs(*SMALL.values())
    for spec in specs:
        capture = cv2.VideoCapture(str(root / spec.video))
        assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == spec.num_frames
        capture.release()
        masks = np.load(root / 'masks' / spec.split / f'{spec.id}.npz')['masks']
        assert masks.shape == (spec.num_frames, 64, 64)
    made = (root / specs[0].video).stat().st_mtime_ns
    (root / 'benchmark.json').unlink()  # the videos are compared with what they should contain
    make_benchmark(root, **SMALL, size=64, workers=1, domain='comic')
    assert (root / specs[0].video).stat().st_mtime_ns == made


def test_the_folder_of_another_domain_is_refused(root: Path) -> None:
    with pytest.raises(DFERError, match="'domain': 'comic'.* give another folder"):
        make_benchmark(root, **SMALL, size=64)
    with pytest.raises(DFERError, match="domain must be one of shaded, comic, got 'oil'"):
        make_benchmark(root, **SMALL, domain='oil')


def test_the_dataset_has_another_name_and_source(tmp_path: Path) -> None:
    sizes: dict[str, Any] = dict(num_train=2, num_test=1, pipeline=[], lazy_init=True)
    first, second = (
        SynthDFER(str(tmp_path / domain), domain=domain, **sizes) for domain in DOMAINS
    )
    assert (first.metainfo['dataset'], second.metainfo['dataset']) == ('synth', 'synth_comic')
    assert first.source != second.source and first.metainfo['classes'] == CLASSES
    assert not list(tmp_path.iterdir())  # the zero-shot test reads the classes on every rank
    second.full_init()
    assert second.get_data_info(0)['identity'].startswith('comic_train_')


# Levels -------------------------------------------------------------------------------------------


def test_levels_of_the_second_domain(tmp_path: Path) -> None:
    folder = make_levels(tmp_path / 'levels', **SMALL, size=64, workers=1, domain='comic')
    specs, faces = COMIC.make_specs(*SMALL.values()), COMIC.make_identities(2, 2, 3)
    captions = read_captions(folder / 'captions.jsonl')
    for spec in specs:
        levels = read_levels(levels_path(folder, f'{spec.split}/{spec.id}'))
        assert levels is not None and len(levels) == spec.num_frames and levels.size == (64, 64)
        truth = true_levels(spec, faces[spec.identity], 64, COMIC)
        found = ~np.isnan(levels.landmarks).any((1, 2))
        assert np.abs(levels.landmarks - truth[1])[found].mean() < 0.02 * 64
        assert (levels.masks == truth[0])[found].mean() > 0.8
    assert len(captions) == len(specs)
    with pytest.raises(DFERError, match='other arguments'):
        make_levels(folder, **SMALL, size=64)
    own = detect_levels(specs[0], faces[specs[0].identity], 64, COMIC.stream_seed(3), domain=COMIC)
    stored = read_levels(levels_path(folder, 'train/00001'))
    np.testing.assert_array_equal(own.masks, stored.masks)


def test_the_command_makes_domain_levels_and_sheet(tmp_path: Path) -> None:
    sizes = ['--train', '2', '--test', '1', '--train-identities', '1', '--test-identities', '1']
    folder = tmp_path / 'comic'
    make_synthetic(
        [str(folder), '--domain', 'comic', '--levels', str(folder / 'levels'), *sizes]
        + ['--size', '64', '--workers', '1']
    )
    assert (folder / 'videos/train/00001.mp4').is_file()
    assert (folder / 'levels/train/00001.npz').is_file()
    sheet = tmp_path / 'sheet.png'
    make_synthetic(['--domain', 'comic', '--contact-sheet', str(sheet)])
    drawn, documented = (cv2.imread(str(p)) for p in (sheet, ROOT / 'docs/synthetic_comic.jpg'))
    assert np.abs(drawn.astype(int) - documented).mean() < 8  # the documented one is a JPEG file
