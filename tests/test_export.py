"What `soundclf export --web` says of a page."

import inspect
import json

import pytest

from soundclf.tools import commands, commands_export, commands_serve


@pytest.mark.parametrize(
    'about, sentence',
    [
        ({'width': 0, 'known': 0, 'answers': {'thresholds': [0.5]}}, 'the model gives several labels.'),
        ({'width': 0, 'known': 0, 'answers': {}}, 'taught: the model has no embedding.'),
        ({'width': 8, 'known': 0, 'answers': {}}, 'name a data set with --clips'),
        ({'width': 8, 'known': 3, 'answers': {}}, ''),
    ],
)
def test_a_page_says_whether_it_can_be_taught(tmp_path, monkeypatch, capsys, about, sentence):
    def made(model, folder, clips):
        (tmp_path / 'model.json').write_text(json.dumps(about))
        return tmp_path / 'index.html'

    monkeypatch.setattr('soundclf.tools.web_page.export_web', made)
    assert commands.run(['export', 'scratch', '--web', str(tmp_path)]) == 0
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if 'taught' in line or '--clips' in line]
    assert sentence in out and len(told) == bool(sentence)
    assert 'http.server 8080 ' in out and out.endswith('then http://localhost:8080\n')


def test_the_page_and_the_server_have_ports_of_their_own():
    assert inspect.signature(commands_serve.serve).parameters['port'].default != commands_export._PORT
