"Tests run without a mirror unless they set one, and never write into the checkout's data."

import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    "An empty data folder, no mirror, and `auto` means what it says."
    monkeypatch.setenv('SOUNDCLF_DATA', str(tmp_path / 'data'))
    for setting in ('SOUNDCLF_MIRROR', 'SOUNDCLF_DATASET'):
        monkeypatch.delenv(setting, raising=False)
    return tmp_path
