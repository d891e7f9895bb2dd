"What a call gives, and what it warns of."

import warnings


def told(call) -> tuple:
    "What a call returns, and its warnings."
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        result = call()
    return result, [str(w.message) for w in found]
