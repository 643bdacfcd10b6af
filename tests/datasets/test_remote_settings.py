"""Settings of data by URL."""

import re
from pathlib import Path

import pytest

from wfvae_toolkit.datasets.remote_settings import RemoteSettings, remote_settings
from wfvae_toolkit.utils.errors import SettingError, UnknownSetting


@pytest.mark.parametrize(('settings', 'words'), [
    (dict(deadline_s=0), 'deadline_s=0: use seconds'), (dict(cache_gb='1'), "cache_gb='1': use GB"),
    (dict(read_ahead_mb=2000), 'at most|to an eighth of the cache'), (dict(storage_options=[1]), 'use a dict, such as'),
    (dict(storage_options=dict(client_kwargs=dict(aws_secret_access_key='5ecret'))), 'aws_secret_access_key may hold'),
    (dict(storage_options=dict(key='5ecret')), 'key may hold a credential'), (dict(cache='x'), 'some of cache_fol')])
def test_wrong_settings(settings, words):
    with pytest.raises((SettingError, UnknownSetting), match=words) as caught:
        remote_settings(settings)
    assert '5ecret' not in str(caught.value)


def test_the_page_lists_every_setting():
    page = (Path(__file__).parents[2] / 'docs/data.md').read_text(encoding='utf-8')
    assert re.findall(r'^\| `(\w+)` \| .*', page.partition('| key of `remote` |')[2].partition('\n\n')[0], re.MULTILINE
                      ) == list(RemoteSettings.__dataclass_fields__)
