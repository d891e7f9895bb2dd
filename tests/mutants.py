"The lines that `mutate.py` breaks: (module, text that stands once in it, what is put in its place, kind)."

from typing import NamedTuple


class Mutant(NamedTuple):
    "One line broken."

    module: str  # below soundclf/, without .py
    old: str  # text of one line, which the module has once
    new: str  # what takes its place
    kind: str  # leak, key, value, safety, metric or tool


ALL = 'range(len(table))'

# Rows that a training must not see reach it.
LEAKS = [
    (
        'core/embeddings',
        'e = np.asarray(embeddings[rows]',
        'rows = np.arange(len(y)); e = np.asarray(embeddings[rows]',
    ),
    ('fastai_transfer', 'return [NoPeeking()]', 'return selection_callbacks()'),
    (
        'core/fastai_blocks',
        'split.valid if len(split.valid) else split.test',
        'split.test if len(split.test) else split.valid',
    ),
    ('scratch_cnn', 'fit_normalize(cached, split.train)', 'fit_normalize(cached, range(len(x)))'),
    ('fastai_transfer', 'fit_normalize(x, split.train)', 'fit_normalize(x, range(len(x)))'),
    ('core/features', 'x[np.sort(rows[i : i + block])]', 'x[i : i + len(rows[i : i + block])]'),
    ('audio_tagging', 'fit_store_normalize(store, train)', f'fit_store_normalize(store, {ALL})'),
    (
        'core/segments',
        'class_names(table), fit_level(waves, split.train)',
        f'class_names(table), fit_level(waves, {ALL})',
    ),
    (
        'core/batches',
        'order = rows[torch.randperm(len(rows), generator=g, device=g.device).cpu().numpy()]',
        'order = torch.randperm(len(y), generator=g, device=g.device).cpu().numpy()',
    ),
    ('core/segments', 'targets(table), split.train, RATE', f'targets(table), {ALL}, RATE'),
    (
        'audio_tagging',
        'tag_batches(store, labels, train, recipe',
        'tag_batches(store, labels, np.arange(len(table)), recipe',
    ),
    ('core/table_fits', 'model.fit(X[train], y[train])', 'model.fit(X, y)'),
    ('core/table_votes', 'split.train[part.train]', 'part.train'),
    ('core/table_votes', 'split.train[part.test]', 'part.test'),
    (
        'core/table_search',
        'kept = thinned(table.group.to_numpy(), rows, slices)',
        'kept = np.arange(len(table))',
    ),
    (
        'core/second_probes',
        'np.flatnonzero(seconds.path.isin(table.path.iloc[split.train]) & loud)',
        'np.flatnonzero(loud)',
    ),
    ('core/second_probes', 'fit_level(waves, split.train)', f'fit_level(waves, {ALL})'),
    ('core/fastai_table', 'splits=(rows[: len(X)], rows[len(X) :])', 'splits=(rows, rows[len(X) :])'),
    (
        'tabular_baselines',
        'inner_split(table, train, seed)',
        'inner_split(table, np.arange(len(table)), seed)',
    ),
    ('tabular_baselines', 'fit_blend(a[a.fold != fold], b[b.fold != fold])', 'fit_blend(a, b)'),
    ('core/splits', 'if both:', 'if False:'),
    (
        'core/splits',
        "(('train', 'valid'), ('train', 'test'), ('valid', 'test'))",
        "(('train', 'valid'), ('train', 'test'))",
    ),
    (
        'core/splits',
        'dealer.split(table, table.label, table.group)',
        'dealer.split(table, table.label, table.path)',
    ),
    ('core/folders', 'merge_groups(table, pairs)', 'table'),
    ('core/duplicates', 'connected_components(graph, directed=False)', '0, np.arange(len(names))'),
    ('core/table_search', 'inside &= ~table.group.isin(table.group[~inside])', 'inside &= True'),
    ('core/urban', 'np.flatnonzero(~test & ~shared)', 'np.flatnonzero(~test)'),
    ('optuna_tuning', 'if len(split.test):', 'if False:'),
    ('tools/training', 'splits = fold_splits(known)', 'splits = [_all_clips(known)]'),
    ('core/calibration', 'fit_temperature(proba[~here], y[~here])', 'fit_temperature(proba[here], y[here])'),
    ('core/conformal', 'conformal_limits(predictions[fold != f]', 'conformal_limits(predictions[fold == f]'),
    ('tools/left_out', 'train = np.intersect1d(split.train, study.rows)', 'train = study.rows'),
    ('tools/left_out', 'examples = strange[~here] if', 'examples = strange if'),
    (
        'tools/left_out',
        '_terms_left_out(study, run, split) for',
        '_terms_left_out(study, study.final, split) for',
    ),
    ('tools/fitting', '_answers(predictions, known)', '_answers(predictions, others)'),
    ('tools/fitting', 'honest = calibrated(predictions)', 'honest = table'),
    ('tools/drift_report', '.assign(**{c: known[c].to_numpy()[places[seen]] for c in columns})', ''),
    (
        'core/shortcuts',
        'forest.fit(x.to_numpy()[split.train], y[split.train])',
        'forest.fit(x.to_numpy(), y)',
    ),
    ('core/shortcut_losses', '_fitted(x[split.train], y[split.train])', '_fitted(x, y)'),
    (
        'core/learning_curve',
        'training_part(table, split.train, share, draw, only)',
        'training_part(table, np.arange(len(table)), share, draw, only)',
    ),
    ('core/audit', 'table = merge_groups(table, pairs).reset_index(drop=True)', 'table = table.copy()'),
    ('core/animals', "if by == 'recording':", "if by == 'file':"),
    ('core/tags', 'groups = meta.freesound_id.to_list()', 'groups = meta.fname.to_list()'),
    (
        'core/esc50',
        'clips_table(paths, label, fold, group, take',
        'clips_table(paths, label, fold, None, take',
    ),
    (
        'core/digits',
        'clips_table(paths, digit, None, speaker, take=take, **about)',
        'clips_table(paths, digit, None, None, take=take, **about)',
    ),
]

# Two things that differ share a name, so that one is taken for the other.
KEYS = [
    (
        'core/features',
        'sha256_of(made_with, asdict(features), file_digests(files), *which)',
        'sha256_of(made_with, file_digests(files), *which)',
    ),
    ('core/features', 'asdict(features), file_digests(files), *which)', 'asdict(features), [], *which)'),
    ('core/keys', 'split.rows, plain, seed)', 'split.rows, plain)'),
    ('core/keys', 'split.rows, plain, seed)', 'split.rows, seed)'),
    ('core/keys', 'sha256_of(file_digests(table.path), listed)', 'sha256_of(listed)'),
    ('core/keys', 'return _tree(pieces), here + elsewhere', 'return _tree(pieces), here'),
    ('core/files', '_digest(str(p), s.st_size, s.st_mtime_ns)', '_digest(str(p), 0, 0)'),
    ('core/files', 'while block := f.read(1 << 20):', 'if block := f.read(1 << 20):'),
    ('core/embeddings', 'sha256_weights(net))[:24]', '0)[:24]'),
    ('core/studies', "f'{self.seed}/{trial_index(trial)}/{name}'", "f'{self.seed}/{name}'"),
]

# A number comes out wrong.
VALUES = [
    ('core/embeddings', 'intercept - (coef / std) @ mean', 'intercept'),
    ('core/loop', 'self.ema.update_parameters(self.model)', 'pass'),
    ('core/loop', 'return self.ema.module if self.ema else self.model', 'return self.model'),
    ('core/loop', 'warm = (1 + int(n)) / (10 + int(n))', 'warm = 1.0'),
    ('core/batches', 'model.eval()', 'model.train()'),
    ('core/audio', 'start = (n - samples) // 2', 'start = 0'),
    ('core/levels', 'wave.mean(0, keepdims=True)', 'wave[:1]'),
    ('core/clips', 'return sorted(table.label.unique())', 'return list(table.label.unique())'),
    ('core/front_ends', 'torch.log(self.mel(wave) + self.floor)', 'torch.log10(self.mel(wave) + self.floor)'),
    ('core/store', 'fit_length(kept[None], max(len(kept), rate // 20))[0]', 'kept'),
    ('core/segments', 'max(0, min(starts[-1], n - RATE))', 'max(0, starts[-1])'),
    ('core/wave_augment', '(r**2 + (1 - r) ** 2).sqrt()', '1'),
    ('core/runtime', 'torch.manual_seed(seed)\n', 'pass\n'),
    ('core/table_estimators', 'full[:, np.asarray(model.classes_, int)] = p', 'full[:, : p.shape[1]] = p'),
    ('core/table_nets', 'share * t + (1 - share) * t[other]', 't'),
    ('core/summary_features', 'spread = segments.std(1)', 'spread = segments.var(1)'),
    ('core/inspection', '(response**2 @ f) / (response**2).sum(1)', '(response**2 @ f) / response.sum(1)'),
    ('core/model_sizes', "'bytes':", "'bytes': 0 *"),
    ('transforms', 'mixed - (s**2 + (1 - s) ** 2).log()', 'mixed'),
    ('spoken_digits', 'theta[:, 1, 2] = f - 1', 'theta[:, 1, 2] = 0'),
    ('waveform_cnn', 'weight = np.exp(focus[0] * loudness', 'weight = np.exp(0 * loudness'),
    ('data', 'trailing = len(zero) - 1 - sound[-1]', 'trailing = len(zero) - sound[-1]'),
    ('core/heads', 'else logits / self.temperature', 'else logits'),
    ('own_sounds', '~stems.duplicated(keep=False)', '~stems.duplicated()'),
]

# A figure says more than was measured.
METRICS = [
    ('core/metrics', 'return min(grouped[0], single[0]), max(grouped[1], single[1])', 'return grouped'),
    (
        'core/metrics',
        '(r.clips * (r.confidence - r.accuracy).abs()).sum()',
        '(r.clips * (r.confidence - r.accuracy)).sum()',
    ),
    (
        'core/metrics',
        "average='macro', labels=sorted(set(true))",
        "average='micro', labels=sorted(set(true))",
    ),
    ('core/metrics', 'binomtest(only_a, n).pvalue', "binomtest(only_a, n, alternative='less').pvalue"),
    ('core/results', 'np.quantile(found, [0.025, 0.975])', 'np.quantile(found, [0.25, 0.75])'),
    (
        'core/confusion',
        'pd.crosstab(predictions.label, predictions.predicted)',
        'pd.crosstab(predictions.predicted, predictions.label)',
    ),
    ('core/predictions', 'np.asarray(classes)[proba.argmax(1)]', 'np.asarray(classes)[proba.argmin(1)]'),
    ('eval_confusion', "order = {'clips': False,", "order = {'clips': True,"),
    ('audio_tagging', 'np.where(rank < 3, 1 / (rank + 1), 0)', 'np.where(rank < 3, 1.0, 0)'),
    ('core/tracking', 'ascending=[False, True]', 'ascending=[True, True]'),
    ('core/conformal', '(len(names) + 1)', 'len(names)'),
    ('core/unknown', 'np.quantile(known, kept,', 'np.quantile(unknown, kept,'),
    ('core/drift', ".drop_duplicates('source')\n\n\n", '\n\n\n'),
    ('core/drift', 'holm(table.p[compared])', 'table.p[compared]'),
    ('core/audit', "'leaks': crossing_copies + len(near['across'])", "'leaks': crossing_copies"),
    ('tools/fitting', 'if calibration_error(calibrated(predictions)) >=', 'if 1 <'),
]

# What protects files and machines is gone.
SAFETY = [
    ('core/runs', 'if sha256_weights(model) !=', 'if False and sha256_weights(model) !='),
    ('tools/labels', "with locked(file.with_name(f'.{file.name}')):", 'if True:'),
    ('core/fetch', 'if found != digest:', 'if False:'),
    ('core/jobs', 'return 1 if _INSIDE else int(asked)', 'return int(asked)'),
    ('core/jobs', 'all(map(_is_free, _ticket(slots))) and ', ''),
    ('core/unknown', 'if hashlib.sha256(data).hexdigest() != digest:', 'if False:'),
    ('tools/answer_log', 'self.written + len(self.rows)', 'self.written'),
    (
        'tools/serve_limits',
        'if not hmac.compare_digest(given.strip().encode(), token.encode()):',
        'if not given.strip():',
    ),
    (
        'tools/serve_limits',
        "if name != 'localhost' and not _is_loopback_address(name):",
        'if False:',
    ),
    ('tools/serve_limits', 'if origin and urlsplit(origin).netloc != host:', 'if False:'),
    ('tools/serve_uploads', 'if len(self.uploads) == self.most_files:', 'if False:'),
    ('core/checks', "return {'nan': ''}", 'return {}'),
    ('tools/models', 'if (package_models() / name).exists():', 'if False:'),
    ('tools/app_uploads', 'if i >= MOST_UPLOADS:', 'if False:'),
    ('core/backbones', 'weights_only=True, map_location', 'weights_only=False, map_location'),
]

# A tool answers something else.
TOOLS = [
    ('tools/windows', 'last = max(0, len(held) - samples)', 'last = 0'),
    ('tools/timeline', '.weighted / ', '.weighted * '),
    ('tools/answers', 'w.proba for w in voting or windows]).mean(0)', 'w.proba for w in windows]).mean(0)'),
    ('tools/answers', 'note = UNLIKE if unlike > threshold', 'note = UNLIKE if unlike > 1'),
    ('tools/timeline', 'w.end > start and not w.note', 'w.end > start'),
    ('tools/live', 'if now - last >= every - 1e-9:', 'if True:'),
    ('tools/terminal', "bar = '█' * round(width * p)", "bar = '█' * round(width * p * p)"),
    ('tools/cards', 'over_groups(p)', "p['accuracy']"),
    ('tools/commands', 'return 1 if words[0] in COMMANDS else 2', 'return 0'),
    ('tools/commands_predict', 'found += find_audio(name)', 'found.append(name)'),
    ('tools/commands_train', "re.sub('[^A-Za-z0-9_.-]+', '-', folder_name)", 'folder_name'),
    (
        'tools/app_parts',
        'if st.session_state.get(kind, (None,))[0] != about:',
        'if kind not in st.session_state:',
    ),
    ('tools/app_label', 'left = unnamed[~unnamed.path.isin(skipped)]', 'left = unnamed'),
    ('tools/commands_listen', 'choices.names[choices.numbers.index(answer)]', 'choices.names[0]'),
    ('core/datasets', "'cats_dogs': cats_dogs,", "'cats_dogs': fsdd,"),
    ('core/drawing', 'return min(width, most), min(height, most)', 'return width, height'),
]

KINDS = {'leak': LEAKS, 'key': KEYS, 'value': VALUES, 'metric': METRICS, 'safety': SAFETY, 'tool': TOOLS}
MUTANTS = [Mutant(*line, kind) for kind, lines in KINDS.items() for line in lines]
