"A worker opens a model once for a batch, and says what is wrong in one sentence."

import pickle

import numpy as np
import pytest

from soundclf.core.files import SoundclfError
from soundclf.tools.serve_models import ModelKey, OpenModels, answers_of

KEY, WAVES, SPANS = ModelKey('m', ''), np.zeros((16, 1, 8), 'float32'), [(0.0, 1.0)] * 16
MEMORY = 'The server has too little memory at the moment: try again, or start fewer workers.'


def opening(monkeypatch, model) -> list[str]:
    "Models open as `model`, or raise it; what is opened is noted."
    opened = []

    def load(path, engine):
        opened.append(path)
        if isinstance(model, Exception):
            raise model
        return model

    monkeypatch.setattr('soundclf.tools.serve_models.Classifier.load', load)
    return opened


@pytest.mark.parametrize(
    'error, sentence, status',
    [
        (SoundclfError('m holds no model: train one.'), 'm holds no model: train one.', None),
        (MemoryError(), MEMORY, 503),
        (RuntimeError('[enforce fail] DefaultCPUAllocator: can\'t allocate memory'), MEMORY, 503),
        (RuntimeError('std::bad_alloc'), MEMORY, 503),
        (KeyError('x'), 'The model does not run (KeyError): train or export it again.', 500),
    ],
)
def test_a_model_that_does_not_open_is_tried_once_for_a_batch(monkeypatch, error, sentence, status):
    opened = opening(monkeypatch, error)
    found = pickle.loads(pickle.dumps(answers_of(OpenModels(), KEY, WAVES, SPANS)))
    assert {(str(e), getattr(e, 'status', None)) for e in found} == {(sentence, status)}
    assert len(found) == 16 and opened == ['m']


class Small:
    "A model that can judge few sounds at once, and none that are not finite."

    most = 1

    def judge(self, waves, spans):
        if len(waves) > self.most:
            raise MemoryError
        if not np.isfinite(waves).all():
            raise ValueError
        return list(spans)


def test_sounds_are_answered_one_by_one_where_a_batch_is_too_large(monkeypatch):
    opened = opening(monkeypatch, Small())
    waves = WAVES.copy()
    waves[3] = np.nan
    found = answers_of(OpenModels(), KEY, waves, SPANS)
    assert str(found[3]).startswith('The model does not run') and found[:3] + found[4:] == SPANS[1:]
    assert opened == ['m']
    monkeypatch.setattr(Small, 'most', 0)
    assert set(map(str, answers_of(OpenModels(), KEY, waves, SPANS))) == {MEMORY}
