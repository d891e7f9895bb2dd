"""The paths of a GPU without one: tensors that only know their shape and their device.

An operation on tensors of two devices raises an error here as it does on a GPU."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

CUDA = torch.device('cuda', 0)
CLASSES = 10


class OnCuda(torch.Generator):
    "A generator that says it is one of the GPU."

    device = CUDA


def moved(module, device=None, **_):
    "What `Module.to` does, which cannot swap tensors without content."
    for part in module.modules() if device else ():
        for name, p in part._parameters.items():
            part._parameters[name] = None if p is None else nn.Parameter(p.detach().to(device))
        for name, b in part._buffers.items():
            part._buffers[name] = None if b is None else b.to(device)
    return module


@pytest.fixture
def gpu(monkeypatch):
    "Tensors without content, on devices that are not here; what draws a seed gets one."
    draw = torch.randint

    def randint(high, size, **how):
        if size == ():
            with unset_fake_temporarily():
                return torch.tensor(3)
        return draw(high, size, **how)

    def randint_between(*args, **how):
        return randint(*args, **how) if len(args) == 2 else draw(*args, **how)

    monkeypatch.setattr(torch, 'randint', randint_between)
    monkeypatch.setattr(nn.Module, 'to', moved)
    monkeypatch.setattr('soundclf.core.runtime.default_generator', lambda device: OnCuda())
    monkeypatch.setattr('soundclf.waveform_cnn.default_generator', lambda device: OnCuda())
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield OnCuda()


def labels(n=8):
    return torch.empty(n, CLASSES, device=CUDA)


def test_two_devices_are_noticed(gpu):
    with pytest.raises(RuntimeError, match='device'):
        labels() + torch.empty(8, CLASSES)


def augments():
    from soundclf.scratch_cnn import Recipe
    from soundclf.spoken_digits import Voice
    from soundclf.transforms import Augment

    yield Recipe().augment
    yield Augment(mixup=0.4, power=False, masks=2)
    yield Voice(tract=0.15, tempo=0.25, noise=0.0)  # noise goes to as many clips as are drawn


@pytest.mark.parametrize('augment', list(augments()), ids=lambda a: type(a).__name__)
def test_spectrograms_are_changed_on_the_gpu(gpu, augment):
    x, y = augment(torch.empty(8, 1, 128, 431, device=CUDA), labels(), nn.Identity(), gpu)
    assert x.device == y.device == CUDA


def test_waves_are_changed_on_the_gpu(gpu):
    from soundclf.core.wave_augment import WaveAugment

    augment = WaveAugment(speed=0.2, level=0.7, filter=0.5, noise=0.5, mixup=0.4)
    x, y = augment(torch.empty(8, 1, 19200, device=CUDA), labels(), 16000, gpu)
    assert x.shape == (8, 1, 16000) and x.device == y.device == CUDA


def networks():
    "Builders of networks, and the shape of a batch."
    from soundclf.audio_tagging import build_tagger
    from soundclf.core.embeddings import TransferNet
    from soundclf.scratch_cnn import NETWORKS, build_network
    from soundclf.waveform_cnn import FilterbankNet, ReferenceWaveNet

    for name in NETWORKS:
        yield name, lambda name=name: build_network(name, CLASSES), (4, 1, 128, 320)
    yield 'tags', lambda: build_tagger('tags', CLASSES), (4, 1, 40, 173)
    yield 'filterbank', FilterbankNet, (4, 1, 16000)
    yield 'wavenet', ReferenceWaveNet, (4, 1, 16000)
    yield 'squeezenet', lambda: TransferNet('squeezenet1_1', CLASSES, False, 0.5, 2.0), (4, 1, 128, 431)
    yield 'mn04', lambda: TransferNet('mn04_as', CLASSES, False, 0.3, 1.0), (4, 1, 128, 500)


@pytest.mark.parametrize('name, build, shape', list(networks()))
def test_networks_answer_on_the_gpu(gpu, name, build, shape):
    network = build().to(CUDA)
    for training in (True, False):
        logits = network.train(training)(torch.empty(shape, device=CUDA))
        assert logits.device == CUDA, name


def test_batches_are_made_on_the_gpu(gpu, monkeypatch):
    from soundclf.core.batches import device_of, training_batches
    from soundclf.core.features import Normalize
    from soundclf.scratch_cnn import Recipe, build_network

    with unset_fake_temporarily():
        x, y, rows = np.zeros((40, 1, 128, 431), 'float32'), np.zeros(40, int), np.arange(40)
    draw = torch.randperm
    order = SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: rows))
    monkeypatch.setattr(torch, 'randperm', lambda n, **how: order if n == 40 else draw(n, **how))
    normalize = Normalize(torch.zeros(1, 128, 1), torch.ones(1, 128, 1)).to(CUDA)
    given = next(training_batches(x, y, rows, CLASSES, Recipe(), normalize, gpu))
    assert all(t.device == CUDA for t in given)
    assert device_of(build_network('small', CLASSES).to(CUDA)) == CUDA


def test_a_device_that_is_not_here_is_refused(monkeypatch):
    from soundclf.core.files import SoundclfError
    from soundclf.core.runtime import best_device

    monkeypatch.setenv('SOUNDCLF_DEVICE', 'cpu')
    assert best_device().type == 'cpu'
    monkeypatch.setenv('SOUNDCLF_DEVICE', 'tpu')
    with pytest.raises(SoundclfError, match="no device 'tpu'"):
        best_device()


def test_the_device_of_a_chapter_reaches_the_processes_that_it_starts(monkeypatch):
    from soundclf.core.files import SoundclfError
    from soundclf.core.runtime import best_device, use_device

    monkeypatch.setenv('SOUNDCLF_DEVICE', 'tpu')
    assert use_device('cpu').type == 'cpu'
    assert os.environ['SOUNDCLF_DEVICE'] == 'cpu'
    assert best_device().type == 'cpu'
    monkeypatch.setenv('SOUNDCLF_DEVICE', 'tpu')
    with pytest.raises(SoundclfError, match='no device'):  # auto leaves the choice to the setting
        use_device('auto')
