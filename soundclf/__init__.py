"""Audio classification to learn from, re-run and reuse: leak-free splits, five folds, intervals."""

__version__ = "0.2.0"

from importlib import import_module

# Public names and their modules; a module is imported when you first ask for its name (PEP 562).
_LAZY = {
    'Classifier': '.tools.classifier',
    'load_dataset': '.core.datasets',
    'train_model': '.tools.training',
}

__all__ = ['__version__', *_LAZY]


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
