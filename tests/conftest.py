"Tests run without a mirror unless they set one, and never write into the checkout's data."

import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    "An empty data folder, no mirror."
    monkeypatch.setenv('SOUNDCLF_DATA', str(tmp_path / 'data'))
    monkeypatch.delenv('SOUNDCLF_MIRROR', raising=False)
    return tmp_path
