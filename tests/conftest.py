"Tests run without a mirror unless they set one, and never write into the checkout's data."

import os

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, and no limit of time, which a busy machine would not keep.
kinds = {'deadline': None, 'derandomize': True, 'max_examples': 40, 'database': None}
settings.register_profile('steady', suppress_health_check=[HealthCheck.too_slow], **kinds)
settings.load_profile('steady')

# Files that take longest come first, so that two workers end together.
LONGEST = ('app', 'serve', 'leaks', 'audit', 'verify', 'pictures', 'predict', 'artefacts', 'unknown')


def pytest_collection_modifyitems(items):
    "The tests of a file stay together and in their order."
    rank = {f'test_{name}.py': i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))



@pytest.fixture
def home(tmp_path, monkeypatch):
    "An empty data folder, no mirror, and `auto` means what it says."
    monkeypatch.setenv('SOUNDCLF_DATA', str(tmp_path / 'data'))
    for setting in ('SOUNDCLF_MIRROR', 'SOUNDCLF_DATASET'):
        monkeypatch.delenv(setting, raising=False)
    return tmp_path


@pytest.fixture(scope='module')
def lone_home(tmp_path_factory):
    "A home folder that holds nothing yet, as the current directory, without a mirror."
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp('home')
    patch.chdir(folder)
    patch.setenv('SOUNDCLF_DATA', str(folder / 'data'))
    patch.setenv('SOUNDCLF_HOME', str(folder))
    patch.delenv('SOUNDCLF_MIRROR', raising=False)
    (folder / 'settings.ini').write_text('lib_name = soundclf\n')
    yield folder
    patch.undo()


@pytest.fixture(autouse=True, scope='session')
def place_of_models(tmp_path_factory):
    "Models go to a folder of the tests, never to the place of whoever runs them."
    if 'SOUNDCLF_HOME' in os.environ:
        yield
        return
    os.environ['SOUNDCLF_HOME'] = str(tmp_path_factory.mktemp('soundclf-home'))
    yield
    del os.environ['SOUNDCLF_HOME']
