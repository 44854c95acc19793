"""What tools/benchmark.py measures, one function a part of its table."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from benchmarks import plain
from mmdfer.datasets import DFERDataset
from mmdfer.engine.runner.loops import read_stages
from mmdfer.features import EncodedClips, FeatureEncoder
from mmdfer.models import CLIPDataPreprocessor, CLIPRecognizer, FrameFeatures
from mmdfer.models.data_preprocessors.clip_preprocessor import encoder_digest
from mmdfer.synthetic import make_benchmark
from mmdfer.synthetic.releases import make_release

ROOT = Path(__file__).resolve().parents[1]
SENTENCES, TOKENS, FRAMES = 16, 64, 16
# DFEW: clips of a fold's training and test set and of all folds; epochs; views of a clip.
TRAIN, TEST, CLIPS, VIEWS = 9356, 2341, 11697, 8
SCHEDULE = Config.fromfile(ROOT / 'configs' / '_base_' / 'schedules' / 'bap_100e.py')
BAP = {stage.name: stage for stage in read_stages(SCHEDULE)}
BF16 = torch.bfloat16


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where."""

    device: str = 'cpu'
    quick: bool = False
    small: bool = False

    @property
    def repeats(self) -> int:
        return 1 if self.small else 2 if self.quick else 5

    @property
    def batch(self) -> int:
        return 2 if self.small else 64

    @property
    def classes(self) -> int:
        return 2 if self.small else 7

    @property
    def clips(self) -> int:
        """Clips of the inference and the extraction rows."""
        return 4 if self.small else 8 if self.quick else 64


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        name: What was measured.
        ours: In ``unit``.
        unit: s, clips/s, ...
        other: What ours is compared with, in the same unit.
        ratio: How many times better ours is; what the target is about, where there is one.
        at_least: The target; a second one holds where oneDNN does not outrun torch's own products.
        at_most: The target of what should be small.
        note: What one should know to read it.
    """

    name: str
    ours: float
    unit: str
    other: float | None = None
    ratio: float | None = None
    at_least: tuple[float, ...] = ()
    at_most: float | None = None
    note: str = ''

    def target(self, onednn: bool) -> tuple[str, bool | None]:
        """The target in words, and whether it is met."""
        value = self.ours if self.ratio is None else self.ratio
        if self.at_most is not None:
            return f'<= {self.at_most:g}', value <= self.at_most
        if not self.at_least:
            return '', None
        first, *rest = self.at_least
        words = f'>= {first:g}' + ''.join(f' ({other:g})' for other in rest)
        return words, value >= (first if onednn else self.at_least[-1])


Rows = list[Row]
Figures = dict[str, float]


# ----------------------------------------------------------------------------------- measuring


def in_turn(
    s: Settings, repeats: int | None = None, warm: bool = False, **runs: Callable[[], Any]
) -> Figures:
    """The median time of each, run in turn; before it, unless warm, a round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range((repeats or s.repeats) + (not warm)):
        for name, run in runs.items():
            seconds = timed(s, run)
            if number or warm or s.small:
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}


def timed(s: Settings, run: Callable[[], Any]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    if s.device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def precision(s: Settings, bf16: bool) -> torch.autocast:
    """Autocast, or nothing."""
    return torch.autocast(s.device, dtype=BF16, enabled=bf16)


def build_ours(s: Settings) -> CLIPRecognizer:
    """The model of the paper's size over ViT-B/32 with random weights."""
    torch.manual_seed(0)
    head = dict(type='MATHead', num_classes=s.classes, num_sentences=SENTENCES, num_tokens=TOKENS)
    backbone = dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='random')
    neck = dict(type='JAS', num_sentences=SENTENCES)
    model = MODELS.build(dict(type='CLIPRecognizer', backbone=backbone, neck=neck, cls_head=head))
    for name, parameter in model.neck.named_parameters():
        if name.endswith(('out_proj.weight', 'linear2.weight')):  # zero where training begins
            torch.nn.init.normal_(parameter, std=0.02)
    return model.to(s.device)


def build_plain(s: Settings, model: CLIPRecognizer, images: Tensor) -> plain.PlainAlignDFER:
    """The plain model with ours' weights and the best image batch."""
    clip = model.backbone
    fixed = clip.start_id, clip.stop_id, clip.end_id
    sizes = model.cls_head.tokens.shape[:3]
    other = plain.PlainAlignDFER(copy.deepcopy(clip.clip), fixed, *sizes)
    with torch.no_grad():
        other.tokens.copy_(model.cls_head.tokens)
        for name in ('text_encoder', 'image_encoder', 'joint_encoder'):
            ours, theirs = getattr(model.neck, name), getattr(other, name)
            theirs.position.copy_(ours.position)
            theirs.transformer.layers.load_state_dict(ours.layers.state_dict())
    other.image_batch = image_batch(s, other.clip, images)
    return other.to(s.device)


def image_batch(s: Settings, clip: open_clip.CLIP, images: Tensor) -> int:
    """open_clip's best, of sizes that there are images for."""
    sizes = (64, 256, 1024) if s.device == 'cuda' else (32, 64, 128)
    return plain.best_image_batch(clip, images, [n for n in sizes if n <= len(images)] or [32])


def draw_frames(s: Settings, clips: int) -> Tensor:
    """Normalised frames (B, T, 3, 224, 224)."""
    return torch.randn(clips, FRAMES, 3, 224, 224, device=s.device)


def matrix_rates(
    s: Settings, rows: int, dtype: torch.dtype, width: int = 512
) -> dict[str, float | None]:
    """FLOP/s of a text layer's products, forward and input gradient, by torch's and by oneDNN's.

    Rows are taken at once and a quarter at a time; the faster counts.
    """
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    shapes += [(out, into) for into, out in shapes]
    packed = s.device == 'cpu' and hasattr(torch.ops.mkldnn, '_linear_pointwise')
    best: dict[str, float] = {}
    for count in (rows, max(1, rows // 4)):
        seconds = dict(torch=0.0, oneDNN=0.0)
        for into, out in shapes:
            x = torch.randn(count, into, dtype=dtype, device=s.device)
            weight = torch.randn(out, into, dtype=dtype, device=s.device)
            runs = dict(torch=lambda x=x, w=weight: F.linear(x, w))
            if packed:
                turned = torch.ops.mkldnn._reorder_linear_weight(weight, None)
                runs['oneDNN'] = lambda x=x, w=turned: torch.ops.mkldnn._linear_pointwise(
                    x, w, None, 'none', [], ''
                )
            for name, value in in_turn(s, **runs).items():
                seconds[name] += value
        flop = sum(2 * count * into * out for into, out in shapes)
        for name, value in seconds.items():
            if value:
                best[name] = max(best.get(name, 0.0), flop / value)
    return dict(torch=best['torch'], oneDNN=best.get('oneDNN'))


# ------------------------------------------------------------------------------------- the rows


class OurStep:
    """Our optimizer step in one stage, on frame vectors (B, T, D) as the bank gives them."""

    def __init__(self, model: CLIPRecognizer, stage: str, vectors: Tensor, bf16: bool) -> None:
        self.model = model.train()
        model.neck.set_stage(stage)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(BAP[stage].matches(name))
        config = copy.deepcopy(SCHEDULE.optim_wrapper)
        config['type'] = 'AutocastOptimWrapper' if bf16 else 'OptimWrapper'
        self.wrapper = build_optim_wrapper(model, config)
        classes = model.cls_head.num_classes
        samples = [ActionDataSample().set_gt_label(i % classes) for i in range(len(vectors))]
        digest = encoder_digest(model.backbone, model.data_preprocessor)
        self.batch = dict(features=vectors[:, None], encoder=digest, data_samples=samples)

    def __call__(self) -> dict[str, Tensor]:
        return self.model.train_step(self.batch, self.wrapper)


def steps(s: Settings) -> tuple[Rows, Figures]:
    """A step of each stage, ours on frame vectors, the plain one on frames."""
    model, frames = build_ours(s), draw_frames(s, s.batch)
    other = build_plain(s, model, frames.flatten(0, 1))
    # Quick: the image pass of a quarter of the batch, times 4.
    passes, shares = [], 4 if s.quick else 1
    image = shares * timed(s, lambda: passes.append(other.encode_frames(frames[::shares])))
    vectors = dict(plain=passes[0].repeat(shares, 1, 1))
    vectors['ours'] = vectors['plain'] if s.quick else model.backbone(frames.transpose(1, 2))
    rows, figures = [], {'plain image pass': image, 'plain image batch': other.image_batch}
    targets = dict(text=((15, 9), (30,)), video=((180, 110), (280,)), joint=((14, 8.5), (27,)))
    for stage, (fp32, bf16) in targets.items():
        times, losses = measure_stage(s, model, other, stage, frames, vectors)
        if s.quick:
            times['plain'] += image
        figures |= {f'{stage} {name}': seconds for name, seconds in times.items()}
        for name, target, bound in (('fp32', fp32, 1e-4), ('bf16', bf16, 1e-2)):
            ratio = times['plain'] / times[name]
            title = f'step of stage {plain.STAGES.index(stage) + 1} ({stage}), {name}'
            note = 'its image pass: a quarter of the batch, times 4' if s.quick else ''
            seconds = times[name], 's', times['plain']
            rows.append(Row(title, *seconds, ratio, at_least=target, note=note))
            apart = abs(losses[name] / losses['plain'] - 1)
            rows.append(Row('  its loss, relative error', apart, '', at_most=bound))
    figures['validation'] = in_turn(s, it=lambda: validate(model, vectors['ours']))['it']
    return rows, figures


def measure_stage(
    s: Settings,
    model: CLIPRecognizer,
    other: plain.PlainAlignDFER,
    stage: str,
    frames: Tensor,
    vectors: dict[str, Tensor],
) -> tuple[Figures, Figures]:
    """Seconds of fp32, bf16 and plain, and the losses of the first step."""
    labels = torch.arange(len(frames), device=s.device) % s.classes
    sgd, start = plain.optimizer(other, stage), copy.deepcopy(model.state_dict())
    tokens = copy.deepcopy(other.state_dict())
    runs = {
        name: OurStep(model, stage, vectors['ours'], bf16)
        for name, bf16 in (('fp32', False), ('bf16', True))
    }
    runs['plain'] = lambda given=vectors['plain']: dict(
        loss=plain.train_step(other, sgd, frames, labels, stage, given)
    )
    losses = {}
    for name, run in runs.items():
        losses[name] = run()['loss'].item()
        model.load_state_dict(start)
        model.neck.set_stage(stage)
    other.load_state_dict(tokens)
    if not s.quick:
        runs['plain'] = lambda: plain.train_step(other, sgd, frames, labels, stage)
    if stage == 'video':  # the text side is passed through once in this stage, not in its steps
        runs['fp32'](), runs['bf16']()
    times = in_turn(s, repeats=1 if s.quick else None, warm=True, **runs)
    model.load_state_dict(start)
    other.load_state_dict(tokens)
    return times, losses


@torch.no_grad()
def validate(model: CLIPRecognizer, vectors: Tensor) -> Tensor:
    """The logits of a batch of frame vectors (B, T, D)."""
    return model.eval()(FrameFeatures(vectors[:, None]), stage='head')


def inference(s: Settings) -> tuple[Rows, Figures]:
    """Clips/s of the whole model against open_clip's encode_image alone, on the same frames."""
    model, frames = build_ours(s).eval(), draw_frames(s, s.clips)
    clip, images = copy.deepcopy(model.backbone.clip), frames.flatten(0, 1)
    size, half = image_batch(s, clip, images), copy.deepcopy(clip)
    open_clip.model.convert_weights_to_lp(half, BF16)

    def ours(bf16: bool) -> Tensor:
        with precision(s, bf16):
            return model(frames.transpose(1, 2)[:, None], stage='head')

    def bare(tower: open_clip.CLIP, images: Tensor, bf16: bool = False) -> Tensor:
        with precision(s, bf16):
            return torch.cat([tower.encode_image(part) for part in images.split(size)])

    rows = []
    with torch.no_grad():
        times = in_turn(
            s,
            **{'ours fp32': lambda: ours(False), 'ours bf16': lambda: ours(True)},
            fp32=lambda: bare(clip, images),
            autocast=lambda: bare(clip, images, True),
            bf16=lambda: bare(half, images.to(BF16)),
        )
        reference, bound = bare(clip, images), dict(fp32=1e-5, bf16=2e-2)
        best = dict(fp32=times['fp32'], bf16=min(times['autocast'], times['bf16']))
        for name, target in (('fp32', (2, 1)), ('bf16', (1.1,))):
            rates = s.clips / times[f'ours {name}'], s.clips / best[name]
            title, ratio = f'inference, {name}, against encode_image', rates[0] / rates[1]
            rows.append(Row(title, rates[0], 'clips/s', rates[1], ratio, at_least=target))
            with precision(s, name == 'bf16'):
                vectors = model.backbone(frames.transpose(1, 2)).flatten(0, 1)
            error = float((vectors - reference).norm() / reference.norm())
            rows.append(Row('  its frame vectors, relative error', error, '', at_most=bound[name]))
    return rows, {f'inference {name}': value for name, value in times.items()}


def text(s: Settings) -> tuple[Rows, Figures]:
    """The text tower's FLOP/s, nominal, against the rate of its products alone.

    Nominal: 12 W^2 weights a layer, one product forward and one for the input's gradient, and the
    attention's two products over all L x L pairs, thrice (once forward, twice backward).
    """
    clip, rows, figures = build_ours(s).backbone, [], {}
    prompts, length, width = s.classes * SENTENCES, TOKENS + 3, clip.text_width
    layers = len(clip.clip.transformer.resblocks)
    flop = prompts * length * layers * (48 * width**2 + 12 * length * width)
    embeddings = torch.randn(prompts, length, width, device=s.device, requires_grad=True)
    for name, dtype, target in (('fp32', torch.float32, 0.65), ('bf16', BF16, 0.72)):

        def run(bf16: bool = dtype == BF16) -> None:
            with precision(s, bf16):
                vectors = clip.encode_prompts(0.02 * embeddings, length - 1)
            vectors.float().sum().backward()

        rate = flop / in_turn(s, run=run)['run'] / 1e9
        matrix = matrix_rates(s, prompts * length, dtype, width)
        known = {k: v / 1e9 for k, v in matrix.items() if v is not None}
        note = ', '.join(f'{k} {v:.0f}' for k, v in known.items())
        best = max(known.values())
        title = f'text tower, {name}, against its products'
        rows.append(Row(title, rate, 'GFLOP/s', best, rate / best, at_least=(target,), note=note))
        figures |= {f'products {name}, {k}': v for k, v in known.items()}
    return rows, figures


def extract(model: CLIPRecognizer, loader: DataLoader, bank: str) -> None:
    """Encode the clips of a loader of frames into a bank, as before training."""
    encoder = FeatureEncoder(model.backbone)
    EncodedClips(loader.dataset, encoder, bank).full_init()


def drawn_loader(s: Settings, root: Path, media: str) -> DataLoader:
    """The training loader of DFEW's config over a drawn tree: one view of each clip."""
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_dfew.py').train_dataloader
    config.dataset = config.dataset.dataset
    config.dataset.update(data_root=str(root), media=media, num_views=1, indices=s.clips)
    config.update(batch_size=16, num_workers=2)
    return Runner.build_dataloader(config, seed=0)


def extraction(s: Settings) -> tuple[Rows, Figures]:
    """Views/s from drawn pictures and videos through our loader and tower, and what bounds it."""
    model, rows, figures = build_ours(s).eval(), [], {}
    with tempfile.TemporaryDirectory() as folder:
        make_release('dfew', folder, 2 * s.clips + 35, ('frames', 'videos'), size=224)
        for media in ('frames', 'videos'):
            for name in ('fp32', 'bf16'):
                loader = drawn_loader(s, Path(folder), media)
                count = len(loader.dataset)
                alone = draw_frames(s, min(16, count)).transpose(1, 2)
                with torch.no_grad(), precision(s, name == 'bf16'):
                    tower = len(alone) / in_turn(s, it=lambda x=alone: model.backbone(x))['it']
                    if name == 'fp32':
                        figures[f'decode {media}'] = count / timed(s, lambda x=loader: list(x))
                    bank = f'{folder}/bank/{media}/{name}'
                    rate = count / timed(s, lambda x=loader, b=bank: extract(model, x, b))
                figures |= {f'{media} {name}': rate, f'tower {name}': tower}
                title = f'extraction from {media}, {name}, against the tower'
                ratio = rate / tower
                rows.append(Row(title, rate, 'views/s', tower, ratio, at_least=(0.9,)))
    for media in ('frames', 'videos'):
        rows.append(Row(f'decoding {media} alone', figures[f'decode {media}'], 'views/s'))
    return rows, figures


class NamedClips(DFERDataset):
    """As many clips as are asked for, of which there are vectors only."""

    METAINFO = dict(classes=tuple('abcdefg'))

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(filename=f'{i}', clip=f'{i}', label=i % 7) for i in range(int(self.ann_file))]


def loading(s: Settings) -> tuple[Rows, Figures]:
    """A batch of vectors from a memory-mapped file in half precision, as the bank keeps them."""
    clips = 64 if s.small else TRAIN // 4 if s.quick else TRAIN
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'vectors')
        vectors = np.memmap(path, np.float16, 'w+', shape=(clips, VIEWS, 1, FRAMES, 512))
        for row in vectors:
            row[:] = np.random.default_rng(0).standard_normal(row.shape, np.float32)
        pipeline = [dict(type='PackActionInputs')]
        named = NamedClips(str(clips), pipeline=pipeline, num_views=VIEWS, test_mode=False)
        dataset = EncodedClips(named)
        dataset.features = torch.from_numpy(vectors)
        stack = CLIPDataPreprocessor()
        config = dict(batch_size=min(64, clips), num_workers=0, dataset=dataset)
        loader = Runner.build_dataloader(
            dict(config, sampler=dict(type='DefaultSampler', shuffle=True)), seed=0
        )
        times = []
        for _ in range(2):
            batches = iter(loader)
            times += [timed(s, lambda b=batches: stack(next(b))) for _ in range(clips // 64)]
    batch = median(times)
    note = f'{64 / batch:.0f} clips/s'
    return [Row('a batch of 64 from the bank', 1e3 * batch, 'ms', at_most=1, note=note)], dict(
        batch=batch
    )


def peak_gb() -> float:
    """Return the peak memory of this process in GB; NaN on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return float('nan')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == 'darwin' else 1e6)


def memory(s: Settings) -> tuple[Rows, Figures]:
    """The peak of a process that takes steps of stage 1."""
    step = OurStep(build_ours(s), 'text', torch.randn(s.batch, FRAMES, 512, device=s.device), False)
    step(), step()
    rows = [Row('peak memory of stage 1, fp32', peak_gb(), 'GB', at_most=4)]
    if s.device == 'cuda':
        gb = torch.cuda.max_memory_allocated() / 1e9
        rows.append(Row('  on the GPU', gb, 'GB', at_most=4))
    return rows, {}


def checkpoint(s: Settings) -> tuple[Rows, Figures]:
    """Bytes of the state after a step of each stage, momentum included."""
    model = build_ours(s)
    vectors = torch.randn(2, FRAMES, 512, device=s.device)
    (images,) = draw_frames(s, 1)
    other = build_plain(s, model, images)
    states: dict[str, list] = dict(ours=[model.state_dict()], plain=[other.state_dict()])
    step = OurStep(model, 'joint', vectors, False)
    step()
    states['ours'].append(step.wrapper.state_dict())
    sgd = plain.optimizer(other, 'joint')
    plain.train_step(other, sgd, images[None], torch.zeros(1, dtype=int), 'joint', vectors[:1])
    states['plain'].append(sgd.state_dict())
    size = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, state in states.items():
            torch.save(state, path := Path(folder, name))
            size[name] = path.stat().st_size / 1e6
    ratio = size['plain'] / size['ours']
    return [Row('checkpoint with optimizer, stage 3', size['ours'], 'MB', size['plain'], ratio)], {}


def startup(s: Settings) -> tuple[Rows, Figures]:
    """From the command to the first step of training, on a synthetic set already in a bank."""
    with tempfile.TemporaryDirectory() as folder:
        clips = (64, 28) if s.quick or s.small else (1400, 700)
        make_benchmark(Path(folder, 'synth'), num_train=clips[0], num_test=clips[1])
        sizes = dict(data_root=f'{folder}/synth', num_train=clips[0], num_test=clips[1])
        loaders = [f'{n}_dataloader.dataset.dataset.' for n in ('train', 'val', 'test')]
        options = [f'{name}{key}={value}' for name in loaders for key, value in sizes.items()]
        seconds = [first_step(folder, options) for _ in range(s.repeats + 1)][1:]
    return [Row('first step after the command', median(seconds), 's', at_most=10)], {}


def first_step(folder: str, options: list[str]) -> float:
    """Seconds until tools/train.py logs its first step; the run is then ended."""
    command = [sys.executable, str(ROOT / 'tools' / 'train.py')]
    command += [str(ROOT / 'configs' / 'align_dfer_synth.py'), '--work-dir', f'{folder}/run']
    command += ['--bank', f'{folder}/bank']
    command += ['--cfg-options', 'default_hooks.logger.interval=1', *options]
    start = time.perf_counter()
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    with subprocess.Popen(command, **output) as run:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if 'Epoch(train)' in line:
                run.kill()
                return time.perf_counter() - start
    raise RuntimeError('tools/train.py ended before its first step:\n' + ''.join(lines[-20:]))


PARTS: dict[str, Callable[[Settings], tuple[Rows, Figures]]] = dict(
    steps=steps,
    inference=inference,
    extraction=extraction,
    text=text,
    loading=loading,
    memory=memory,
    checkpoint=checkpoint,
    startup=startup,
)


# ------------------------------------------------------------------------------- what is computed


def schedule(f: dict[str, Figures]) -> Rows:
    """DFEW's whole schedule, from the parts that were measured.

    The plain one decodes for nothing, and validates with the image pass alone.
    """
    rows, steps_of, batches = [], f['steps'], -(-TRAIN // 64)
    epochs, tests = {name: stage.epochs for name, stage in BAP.items()}, -(-TEST // 64)
    for folds, target in ((1, dict(fp32=(), bf16=())), (5, dict(fp32=(18, 9.5), bf16=(35,)))):
        for name in ('fp32', 'bf16'):
            ours, other = (
                folds * batches * sum(n * steps_of[f'{stage} {who}'] for stage, n in epochs.items())
                for who in (name, 'plain')
            )
            passes = folds * sum(epochs.values()) * tests  # validation batches
            views = VIEWS * TRAIN + TEST if folds == 1 else (VIEWS + 1) * CLIPS
            extracting = views / f['extraction'][f'frames {name}']
            validating = passes * steps_of['validation']
            other += passes * steps_of['plain image pass']
            total = ours + extracting + validating
            note = (
                f'extraction {extracting / 3600:.2f} + steps {ours / 3600:.2f} + '
                f'validation {validating / 3600:.2f}'
            )
            title = f'DFEW, {folds} fold{"s" * (folds > 1)}, 100 epochs, {name}'
            hours, more = (total / 3600, other / 3600), dict(at_least=target[name], note=note)
            rows.append(Row(title, hours[0], 'h', hours[1], hours[1] / hours[0], **more))
    return rows


def share_of_step(f: dict[str, Figures]) -> Rows:
    """Loading against a stage 2 step."""
    share = 100 * f['loading']['batch'] / f['steps']['video fp32']
    return [Row('  its share of a stage 2 step, fp32', share, '%', at_most=2)]


COMPUTED = {('steps', 'extraction'): schedule, ('steps', 'loading'): share_of_step}
