"""Test the synthetic benchmark: contents, equality between machines, and order of frames."""

import collections
import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdfer.synthetic import (
    AU_NAMES,
    AUS,
    CLASSES,
    PARTS,
    ClipSpec,
    benchmark,
    curves,
    describe,
    emotions,
    make_benchmark,
    make_identities,
    make_specs,
    read_specs,
    render,
    render_parts,
    sample_identity,
    sample_shot,
)
from mmdfer.synthetic.domains import SHADED
from mmdfer.synthetic.levels import make_levels
from mmdfer.synthetic.media import write_video

FULL = dict(num_train=1400, num_test=700, num_train_identities=140, num_test_identities=70, seed=0)
SMALL = dict(num_train=16, num_test=8, num_train_identities=5, num_test_identities=2, seed=3)


@pytest.fixture(scope='module')
def specs() -> list[ClipSpec]:
    return make_specs(*FULL.values())


@pytest.fixture(scope='module')
def small(tmp_path_factory) -> Path:
    """Make a small benchmark with all extras by two processes."""
    root = tmp_path_factory.mktemp('synthetic') / 'small'
    return make_benchmark(root, **SMALL, size=64, workers=2, extras=benchmark.EXTRAS)


def digest(seed: int, **sizes: int) -> str:
    people = (sizes['num_train_identities'], sizes['num_test_identities'])
    clips = make_specs(sizes['num_train'], sizes['num_test'], *people, seed)
    return benchmark.annotations_digest(
        benchmark.annotations(clips, make_identities(*people, seed))
    )


# Equal on every machine ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (SMALL, '25a52ee17ba203c2d80d02e399edfeed93c64780af106a7b7788b7e75fc69774'),
        (FULL, '0374aead36fa96e131c8b4ee7eb20257eeb927f855f820511b85ead1bc29d417'),
    ],
    ids=['small', 'full'],
)
def test_annotations_are_those_of_every_machine(arguments, expected):
    assert digest(**arguments) == expected


def test_another_seed_gives_other_clips():
    assert digest(**SMALL) != digest(**SMALL | {'seed': 4})


def test_two_makings_write_the_same_annotations(small, tmp_path):
    again = make_benchmark(tmp_path / 'again', **SMALL, size=64, workers=1)
    names = [p.name for p in again.iterdir() if p.suffix in ('.txt', '.jsonl')]
    assert len(names) == 6
    assert all((again / n).read_bytes() == (small / n).read_bytes() for n in names)


def test_clips_survive_json(specs):
    for spec in specs[:50]:
        assert ClipSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


# Contents -----------------------------------------------------------------------------------------


def test_class_counts_are_dfews(specs):
    # The largest-remainder method by hand, with the 11,697 single-labelled clips of DFEW.
    totals = np.array([2445, 1894, 2669, 2173, 1469, 145, 902])
    for split, count in (('train', 1400), ('test', 700)):
        exact = totals / totals.sum() * count
        expected = np.floor(exact).astype(int)
        most = np.argsort(-(exact - expected))[: count - expected.sum()]
        expected[most] += 1
        found = collections.Counter(s.label for s in specs if s.split == split)
        assert [found[i] for i in range(len(CLASSES))] == expected.tolist()


def test_no_identity_is_in_two_parts(specs):
    parts = {p: {s.identity for s in specs if s.part == p} for p in ('fit', 'heldout', 'test')}
    assert [len(parts[p]) for p in ('fit', 'heldout', 'test')] == [112, 28, 70]
    assert len(set.union(*parts.values())) == 210
    faces = make_identities(140, 70, 0)
    assert len({dataclasses.astuple(f) for f in faces.values()}) == 210


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_pair_without_its_order_does_not_tell_the_label(specs, split):
    orders = collections.Counter()
    for spec in specs:
        if spec.split == split and spec.kind == 'sequence':
            first, last = (e.name for e in spec.expressions)
            assert CLASSES[spec.label] == last
            orders[first, last] += 1
    assert orders
    assert all(orders[b, a] == count for (a, b), count in orders.items())


def test_documented_shares(specs):
    emotional = [s for s in specs if CLASSES[s.label] != 'neutral']
    neutral = [s for s in specs if CLASSES[s.label] == 'neutral']
    sequences = [s for s in emotional if s.kind == 'sequence']
    assert 0.40 <= len(sequences) / len(emotional) <= 0.45
    polite = [s for s in neutral if s.kind == 'polite smile']
    assert len(polite) / len(neutral) == pytest.approx(0.30, abs=0.01)
    assert {s.kind for s in neutral} == {'rest', 'polite smile'}
    assert all(24 <= s.num_frames <= 48 for s in specs)


def test_first_and_last_of_a_sequence_are_alike(specs):
    pairs = [s.expressions for s in specs if s.kind == 'sequence']
    lengths = np.array([[e.onset + e.apex + e.offset for e in pair] for pair in pairs])
    tilts = np.array([[e.onset - e.offset for e in pair] for pair in pairs])
    heights = np.array([[max(e.aus.values()) for e in pair] for pair in pairs])
    for values in (lengths, tilts, heights):
        difference = values[:, 1] - values[:, 0]
        assert abs(difference.mean()) < 3 * difference.std() / len(pairs) ** 0.5
    for first, last in pairs:
        assert first.start + first.onset + first.apex + first.offset <= last.start + 1e-5


def test_a_polite_smile_is_a_felt_smile_backwards(specs):
    for spec in [s for s in specs if s.kind == 'felt smile'][:20]:
        felt = dataclasses.replace(spec, syllables=(), blinks=())
        backwards = tuple(emotions.reverse(e) for e in spec.expressions)
        polite = dataclasses.replace(felt, expressions=backwards)
        np.testing.assert_allclose(curves(polite)[::-1], curves(felt), atol=1e-4)
    for kind, sign in (('felt smile', -1), ('polite smile', 1)):
        smiles = [e for s in specs if s.kind == kind for e in s.expressions if e.name != 'flash']
        assert all(sign * (e.onset - e.offset) > 0.15 for e in smiles)


def test_curves(specs):
    for spec in specs[:300]:
        aus = curves(spec)
        assert aus.shape == (spec.num_frames, len(AUS))
        assert aus.dtype == np.float32
        assert aus.min() >= 0.0
        assert aus.max() <= 1.0
        assert (aus >= np.float32(spec.rest) - 1e-6).all()
        assert all(e.start + e.onset + e.apex + e.offset <= 1.0 + 1e-5 for e in spec.expressions)
        shown = set(AUS[i] for i in np.flatnonzero(np.ptp(aus, axis=0) > 0.3))
        talk = {'AU25', 'AU26'} if spec.syllables else set()
        assert shown <= {'AU45'} | talk | {n for e in spec.expressions for n in e.aus}


def test_apex_reaches_its_action_units(specs):
    spec = next(s for s in specs if s.kind == 'sequence' and not s.syllables)
    spec = dataclasses.replace(spec, rest=(0.0,) * len(AUS), num_frames=48)
    aus = curves(spec)
    for e in spec.expressions:
        middle = round((e.start + e.onset + 0.5 * e.apex) * 47)
        for name, value in e.aus.items():
            assert aus[middle, AUS.index(name)] == pytest.approx(value, abs=0.02)


# Order matters ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
def test_order_matters(specs):
    from mmdfer.synthetic.order import check_order

    names = ('16 frames in order', '16 frames, each unit sorted', 'the mean of the frames')
    figures = check_order(specs, (*names, 'the middle frame', 'the first frame'))
    in_order, by_unit, mean, middle, first = (war for war, _ in figures.values())
    assert in_order > 90
    assert in_order - by_unit > 15
    assert in_order - mean > 25
    assert in_order - middle > 35
    assert first < 25


def test_sorting_keeps_frames_and_drops_order(specs):
    from mmdfer.synthetic.order import sample_aus, views

    aus = sample_aus(specs[:20])
    seen = views(aus)
    forth, back = (views(a)['16 frames, sorted by activity'] for a in (aus, aus[:, ::-1]))
    np.testing.assert_allclose(forth.sum(2), back.sum(2))
    assert (np.diff(forth.sum(2), axis=1) >= 0).all()
    for clip_aus, kept in zip(aus, forth, strict=True):
        assert sorted(map(tuple, clip_aus)) == sorted(map(tuple, kept))
    np.testing.assert_array_equal(
        seen['16 frames, each unit sorted'], np.sort(aus[:, ::-1], axis=1)
    )


# Faces --------------------------------------------------------------------------------------------

BROWS, EYES, NOSE, MOUTH = (17, 27), (36, 48), (27, 36), (48, 68)
CHIN, JAW = (6, 11), (4, 13)
# The landmarks around which each unit has an effect, and the margin as a fraction of the frame.
WHERE = {
    'AU1': ([BROWS], 0.16),
    'AU2': ([BROWS], 0.16),
    'AU4': ([BROWS], 0.12),
    'AU5': ([EYES], 0.06),
    'AU6': ([EYES], 0.16),
    'AU7': ([EYES], 0.08),
    'AU9': ([BROWS, NOSE, EYES], 0.08),
    'AU10': ([NOSE, MOUTH], 0.06),
    'AU12': ([MOUTH, NOSE], 0.16),
    'AU15': ([MOUTH, CHIN], 0.06),
    'AU17': ([MOUTH, JAW], 0.06),
    'AU20': ([NOSE, MOUTH, JAW], 0.08),
    'AU23': ([MOUTH], 0.08),
    'AU25': ([MOUTH], 0.06),
    'AU26': ([MOUTH, CHIN], 0.12),
    'AU45': ([EYES], 0.06),
}


def drawn(unit: str | None, who: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a still face with one unit (or none) at full strength, and return its landmarks too."""
    aus = np.array([float(name == unit) for name in AUS])
    face, shot = (f(np.random.default_rng(who)) for f in (sample_identity, sample_shot))
    return render(face, aus, shot, size=size), render_parts(face, aus, shot, size=size)[1]


@pytest.mark.parametrize('unit', AUS)
def test_each_action_unit_changes_its_region(unit):
    for who in range(4):
        rest, points = drawn(None, who, 64)
        change = np.abs(drawn(unit, who, 64)[0].astype(int) - rest).sum(2)
        assert (change > 60).sum() >= 12, 'the change is too small to be seen at 64 pixels'
        groups, beyond = WHERE[unit]
        near = np.concatenate([points[slice(*g)] for g in groups])
        low, high = near.min(0) - 64 * beyond, near.max(0) + 64 * beyond
        y, x = np.mgrid[:64, :64]
        inside = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
        assert change[inside].sum() > 0.9 * change.sum()


def test_action_units_move_landmarks_as_facs_says():
    def moved(unit: str, points: list[int]) -> np.ndarray:
        return np.mean(
            [(drawn(unit, w, 112)[1] - drawn(None, w, 112)[1])[points] for w in range(3)], (0, 1)
        )

    inner, outer, corners, chin = [21, 22], [17, 26], [48, 54], [8]
    assert moved('AU1', inner)[1] < -3 < -1 < moved('AU1', outer)[1]
    assert moved('AU2', outer)[1] < -3 < -1 < moved('AU2', inner)[1]
    assert moved('AU4', inner)[1] > 3
    assert moved('AU12', corners)[1] < -3
    assert moved('AU15', corners)[1] > 3
    assert moved('AU26', chin)[1] > 4
    assert moved('AU12', [54])[0] > 1
    assert moved('AU20', [54])[0] > 1
    assert moved('AU23', [54])[0] < -1


def test_names_of_action_units():
    assert tuple(AU_NAMES) == AUS
    assert (AU_NAMES['AU12'], AU_NAMES['AU45']) == ('lip corner puller', 'blink')


def test_parts_agree_with_landmarks():
    for who in range(4):
        face, shot = (f(np.random.default_rng(who)) for f in (sample_identity, sample_shot))
        mask, points = render_parts(face, np.zeros(len(AUS)), shot, size=128)
        assert mask.shape == (128, 128)
        assert mask.dtype == np.uint8
        assert points.shape == (68, 2)
        at = {p: points[slice(*g)].mean(0) for p, g in (('brow', (17, 22)), ('eye', (36, 42)))}
        for part, (x, y) in at.items():
            assert PARTS[mask[round(float(y)), round(float(x))]] == part
        assert {'skin', 'hair', 'nose', 'upper lip', 'lower lip'} <= {
            PARTS[i] for i in np.unique(mask)
        }


@pytest.mark.parametrize('aus', [np.zeros(3), np.full(len(AUS), 1.5), np.full(len(AUS), np.nan)])
def test_wrong_action_units_are_refused(aus):
    face, shot = (f(np.random.default_rng(0)) for f in (sample_identity, sample_shot))
    with pytest.raises(ValueError, match='within 0..1'):
        render(face, aus, shot)


# In words -----------------------------------------------------------------------------------------


def clip(*expressions: emotions.Expression, **changes) -> ClipSpec:
    """Build the description of a training clip with the given expressions."""
    values = dict(id='00001', split='train', part='fit', label=2, kind='plain', num_frames=30)
    values |= dict(identity='train_000', seed=0, rest=(0.0,) * len(AUS), syllables=(), blinks=())
    return ClipSpec(**values | changes, expressions=expressions)


def test_descriptions():
    frown = emotions.Expression('anger', 0.1, 0.1, 0.1, 0.1, {'AU4': 0.8, 'AU23': 0.7})
    smile = emotions.Expression('happiness', 0.5, 0.06, 0.1, 0.3, {'AU6': 0.6, 'AU12': 0.8})
    talk = ((0.3, 0.2, 0.4, 0.2),)
    assert describe(clip()) == 'The face stays at rest.'
    assert describe(clip(syllables=talk)) == 'The face stays at rest while the mouth speaks.'
    assert describe(clip(smile, frown)) == (
        'The brows lower and draw together and the lips tighten, '
        'then the cheeks rise and the lip corners rise quickly and relax slowly.'
    )
    backwards = describe(clip(emotions.reverse(smile)))
    assert backwards == 'The cheeks rise and the lip corners rise slowly and relax quickly.'


def test_descriptions_name_no_emotion(specs):
    for spec in specs[:300]:
        sentence = describe(spec)
        assert sentence.endswith('.')
        assert sentence.count('.') == 1
        assert not any(name in sentence.lower() for name in CLASSES)


# On disk ------------------------------------------------------------------------------------------


def test_decord_reads_every_frame(small):
    decord = pytest.importorskip('decord')
    clips = {s.video: s for s in read_specs(small)}
    for line in (small / 'train.txt').read_text().splitlines():
        path, label = line.split(' ')
        video = decord.VideoReader(str(small / path), num_threads=1)
        assert len(video) == clips[path].num_frames
        assert video[0].asnumpy().shape == (64, 64, 3)
        assert int(label) == clips[path].label


@pytest.mark.parametrize('size', [80, 112, 128])
def test_decord_reads_other_sizes(size, tmp_path):
    decord = pytest.importorskip('decord')
    spec, face = clip(), sample_identity(np.random.default_rng(0))
    write_video(tmp_path / 'clip.mp4', SHADED.frames(spec, face, size), (size, size))
    video = decord.VideoReader(str(tmp_path / 'clip.mp4'), num_threads=1)
    frame = video[15].asnumpy().astype(int)  # RGB, as the drawn frame
    truth = list(SHADED.frames(spec, face, size))[15]
    assert (len(video), frame.shape) == (30, (size, size, 3))
    assert np.abs(frame - truth).mean() < 8


def test_annotation_files(small):
    rows = {n: (small / f'{n}.txt').read_text().splitlines() for n in ('train', 'fit', 'heldout')}
    assert len(rows['train']) == 16
    assert sorted(rows['fit'] + rows['heldout']) == sorted(rows['train'])
    identity = {s.video: s.identity for s in read_specs(small)}
    people = [{identity[r.split()[0]] for r in rows[n]} for n in ('fit', 'heldout')]
    assert people[0].isdisjoint(people[1])
    assert people[1]
    faces = [json.loads(line)['id'] for line in (small / 'identities.jsonl').open()]
    assert set(identity.values()) <= set(faces)


def test_extras(small):
    spec = read_specs(small)[0]
    shapes = {'aus': (len(AUS),), 'masks': (64, 64), 'landmarks': (68, 2)}
    for what, shape in shapes.items():
        with np.load(small / what / 'train' / '00001.npz') as file:
            values = file[what]
        assert values.shape == (spec.num_frames, *shape)
        if what == 'aus':
            np.testing.assert_array_equal(values, curves(spec))
    captions = [json.loads(line) for line in (small / 'captions.jsonl').open()]
    assert len(captions) == 24
    assert captions[0] == {'video': spec.video, 'caption': describe(spec)}


def stamps(root: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in sorted(root.rglob('*.mp4'))}


@pytest.fixture
def copy(small, tmp_path) -> Path:
    """Copy the benchmark for a test that damages it."""
    return shutil.copytree(small, tmp_path / 'copy')


def remade(root: Path, before: dict[Path, int]) -> set[str]:
    """Make the benchmark again, and return the videos that were written."""
    make_benchmark(root, **SMALL, size=64, workers=1)
    after = stamps(root)
    assert after.keys() >= before.keys()
    return {p.stem + p.parent.name for p in after if after[p] != before.get(p)}


def test_a_whole_benchmark_is_left_alone(copy):
    assert remade(copy, stamps(copy)) == set()


@pytest.mark.parametrize('record', [True, False], ids=['recorded', 'record lost'])
def test_only_what_is_damaged_is_remade(copy, record):
    before = stamps(copy)
    gone, short, other, garbage = (copy / f'videos/train/0000{i}.mp4' for i in (1, 2, 3, 4))
    gone.unlink()
    short.write_bytes(short.read_bytes()[:1500])
    other.write_bytes((copy / 'videos/train/00005.mp4').read_bytes())
    garbage.write_bytes(b'not a video')
    if not record:
        (copy / 'benchmark.json').unlink()
    assert remade(copy, before) == {f'0000{i}train' for i in (1, 2, 3, 4)}
    assert (copy / 'benchmark.json').exists()
    assert not (copy / 'making.json').exists()


def test_an_interrupted_making_is_completed(tmp_path, monkeypatch):
    root, write, count = tmp_path / 'cut', benchmark._write_video, iter(range(100))

    def stop_at_the_sixth(path, *args):
        write(path, *args)
        if next(count) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, '_write_video', stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        make_benchmark(root, **SMALL, size=64, workers=1)
    monkeypatch.undo()
    assert not (root / 'benchmark.json').exists()
    before = stamps(root)
    assert len(before) == 5
    (root / 'videos/train/.partial-1-00006.mp4').write_bytes(b'left by a killed process')
    with pytest.raises(ValueError, match="'size': 64.*'size': 80"):
        make_benchmark(root, **SMALL, size=80)
    assert len(remade(root, before)) == 24 - 5
    assert not list(root.rglob('.partial*'))


def test_two_processes_make_one_folder(small, tmp_path):
    """Two trainings that start on a new machine make the benchmark and its levels once."""
    made = dict(SMALL, size=64, workers=2)
    script = (
        'from mmdfer.synthetic import make_benchmark\n'
        'from mmdfer.synthetic.levels import make_levels\n'
        'print("ready", flush=True)\n'
        'input()\n'
        f'make_benchmark("both", **{made})\n'
        f'make_levels("levels", **{made})\n'
    )
    pipes = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.PIPE)
    processes = [
        subprocess.Popen([sys.executable, '-c', script], cwd=tmp_path, text=True, **pipes)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        process.stdin.write('\n')
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert any('waiting' in stdout for stdout, _ in said)
    for path in small.glob('videos/*/*.mp4'):
        assert (tmp_path / 'both' / path.relative_to(small)).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / 'levels').glob('*/*.npz'))) == 24
    assert not [path for path in tmp_path.rglob('.*') if path.is_file()]


def test_other_arguments_are_refused(small):
    with pytest.raises(ValueError, match=r"'seed': 3.*'seed': 4.*another folder"):
        make_benchmark(small, **SMALL | {'seed': 4}, size=64)


def test_another_generator_is_refused(copy):
    record = json.loads((copy / 'benchmark.json').read_text())
    (copy / 'benchmark.json').write_text(json.dumps(record | {'digest': 'f' * 64}))
    with pytest.raises(ValueError, match='ffffffffffff.*another generator'):
        make_benchmark(copy, **SMALL, size=64)


def test_files_of_others_are_not_overwritten(tmp_path):
    (tmp_path / 'train.txt').write_text('mine.mp4 0\n')
    with pytest.raises(ValueError, match=r'train\.txt.*empty folder'):
        make_benchmark(tmp_path, **SMALL, size=64)
    assert (tmp_path / 'train.txt').read_text() == 'mine.mp4 0\n'


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / 'train.csv').write_text('clip,label\n')
    with pytest.raises(ValueError, match=r'other files \(train\.csv\).*align_dfer_custom'):
        make_benchmark(tmp_path, **SMALL, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ['train.csv']


def test_a_folder_with_levels_alone_is_accepted(tmp_path):
    few = dict(SMALL, num_train=2, num_test=1)
    make_levels(tmp_path / 'levels', **few, size=64, workers=1)
    make_benchmark(tmp_path, **few, size=64, workers=1)
    assert (tmp_path / 'videos' / 'train' / '00001.mp4').is_file()


def test_without_its_record_a_benchmark_is_completed(copy):
    (copy / 'benchmark.json').unlink()
    (copy / 'videos' / 'train' / '00001.mp4').unlink()
    make_benchmark(copy, **SMALL, size=64)
    assert (copy / 'videos' / 'train' / '00001.mp4').is_file()
    assert (copy / 'benchmark.json').is_file()


def test_a_changed_annotation_is_restored_and_said(copy):
    whole = (copy / 'train.txt').read_bytes()
    (copy / 'train.txt').write_bytes(whole[:100])
    with pytest.warns(UserWarning, match=r'train\.txt had been changed'):
        make_benchmark(copy, **SMALL, size=64)
    assert (copy / 'train.txt').read_bytes() == whole


def test_an_incomplete_record_is_refused(copy):
    (copy / 'benchmark.json').write_text('{"arguments": ')
    with pytest.raises(ValueError, match=r'benchmark\.json.*delete it'):
        make_benchmark(copy, **SMALL, size=64)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'size': 72}, 'multiple of 16'),
        ({'extras': ['flow']}, 'extras must be a list'),
        ({'extras': 'aus'}, 'extras must be a list'),
        ({'num_test': 0}, 'test needs at least one clip'),
    ],
)
def test_wrong_arguments_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_benchmark(tmp_path / 'new', **SMALL | changes)
    assert not (tmp_path / 'new').exists()


def test_the_command(tmp_path):
    tool = Path(__file__).parents[1] / 'tools' / 'make_synthetic.py'
    command = [sys.executable, str(tool), str(tmp_path / 'out'), '--extras', 'captions']
    sizes = {'train': 60, 'test': 8, 'train-identities': 4, 'test-identities': 2, 'size': 64}
    command += [f'--{name}={value}' for name, value in sizes.items()] + ['--workers', '2']
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=600)
    # The contact sheet starts threads of OpenCV, which must not block a forked worker.
    done = run([*command, '--contact-sheet', str(tmp_path / 'sheet.png')])
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / 'out').rglob('*.mp4'))) == 68
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape[1] > 500
    refused = run([*command, '--seed', '1'])
    assert refused.returncode != 0
    assert "'seed': 1" in refused.stderr.splitlines()[-1]
    assert 'Traceback' not in refused.stderr
