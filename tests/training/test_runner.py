SHORT = {'train_cfg.val_interval': 2, 'default_hooks.curves': None, 'default_hooks.pictures': None,
         'default_hooks.flat_fields': None, 'default_hooks.logger.interval': 1}


def test_a_new_run_sets_an_earlier_one_aside(train, tmp_path, capsys):
    train('tiny', tmp_path, **{**SHORT, 'train_cfg.max_iters': 4})
    before = {path.name for path in tmp_path.iterdir()}
    rows = (tmp_path / 'log.jsonl').read_text(encoding='utf-8')
    train('tiny', tmp_path, **{**SHORT, 'train_cfg.max_iters': 2})
    aside, = tmp_path.glob('before_*')
    assert {'iter_4.pth', 'last_checkpoint', 'log.jsonl', 'train.csv', 'val.csv'} <= before
    assert (aside / 'iter_4.pth').is_file()
    assert (aside / 'log.jsonl').read_text(encoding='utf-8') == rows
    assert not (tmp_path / 'iter_4.pth').exists()
    assert (tmp_path / 'last_checkpoint').read_text(encoding='utf-8').strip() == 'iter_2.pth'
