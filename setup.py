"Everything setuptools needs is read from settings.ini; the tracked checksum lists travel inside the package."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(ROOT / 'settings.ini')
cfg = config['DEFAULT']
readme = ROOT / 'README.md'


def words(key):
    return cfg.get(key, '').split()


extras = {k.removesuffix('_requirements'): words(k) for k in cfg if k.endswith('_requirements')}
setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    license='Apache-2.0',
    classifiers=['Programming Language :: Python :: 3'],
    python_requires=f'>={cfg["min_python"]}',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    url=cfg['git_url'],
    packages=[*find_packages(include=['soundclf', 'soundclf.*']), 'soundclf.manifests'],
    package_dir={'soundclf.manifests': 'data/manifests'},
    package_data={'soundclf': ['models/*/*', 'examples/*', 'web/*'], 'soundclf.manifests': ['*.sha256']},
    install_requires=words('requirements'),
    extras_require=extras,
    entry_points={
        'console_scripts': words('console_scripts'),
        'nbdev': [f'{cfg["lib_name"]}={cfg["lib_name"]}._modidx:d'],
    },
    zip_safe=False,
)
