"Weights that are missing, broken off, forged or of another network: one sentence each."

import http.client
import urllib.error
from pathlib import Path

import pytest
import torchvision
from safetensors.torch import save_file

from soundclf.core.backbones import _hub_file, fetch_backbone, has_weights
from soundclf.core.files import SoundclfError


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    "A data folder, a mirror and a hub folder that are empty."
    monkeypatch.setenv('SOUNDCLF_DATA', f'{tmp_path}/data')
    monkeypatch.setenv('SOUNDCLF_MIRROR', f'{tmp_path}/mirror')
    monkeypatch.setenv('TORCH_HOME', f'{tmp_path}/hub')
    return tmp_path


def _download_fails(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr('torch.hub.download_url_to_file', fail)


def _damaged(file: Path, content: bytes = b'no weights at all'):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (urllib.error.URLError('no network'), 'put resnet34.safetensors'),
        (http.client.IncompleteRead(b'half', 4), 'put resnet34.safetensors'),
        (RuntimeError('invalid hash value'), 'does not match the hash in its name'),
    ],
)
def test_a_failed_download_is_one_sentence(nothing_here, monkeypatch, error, message):
    _download_fails(monkeypatch, error)
    with pytest.raises(SoundclfError, match=message):
        fetch_backbone('resnet34')


def test_weights_that_are_nowhere_can_be_done_without(nothing_here, monkeypatch):
    _download_fails(monkeypatch, http.client.IncompleteRead(b'half', 4))
    assert has_weights('resnet34') is False


@pytest.mark.parametrize('call', [fetch_backbone, has_weights])
@pytest.mark.parametrize('place', ['hub', 'data'])
def test_a_damaged_file_is_named(nothing_here, call, place):
    data = nothing_here / 'data' / 'weights' / 'resnet34.safetensors'
    file = _hub_file('resnet34') if place == 'hub' else data
    _damaged(file)
    with pytest.raises(SoundclfError) as e:
        call('resnet34')
    assert f'{file} is damaged' in str(e.value)


def test_a_damaged_mirror_is_named(nothing_here):
    (nothing_here / 'mirror').mkdir()
    _damaged(nothing_here / 'mirror' / 'weights' / 'squeezenet1_1.safetensors')
    with pytest.raises(SoundclfError, match='repair the mirror'):
        has_weights('squeezenet1_1')


def test_weights_of_another_network_are_refused(nothing_here):
    (nothing_here / 'data' / 'weights').mkdir(parents=True)
    state = torchvision.models.squeezenet1_1().state_dict()
    save_file(state, nothing_here / 'data' / 'weights' / 'resnet34.safetensors')
    with pytest.raises(SoundclfError, match='holds other weights than'):
        fetch_backbone('resnet34')
