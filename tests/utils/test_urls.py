from pathlib import Path

from wfvae_toolkit.utils.urls import UrlFolder, is_url, shown_url


def test_what_is_a_url():
    assert all(map(is_url, ('http://h/a.tar', 'HTTPS://h/a', 's3://bucket/{0..1}.tar', 'gs://b/a')))
    assert not any(map(is_url, ('a.tar', '/a//b', 'C:/a', 'a/http:/b', Path('http://h/a'), None)))


def test_credentials_are_not_shown():
    for given, shown in {
            'https://h/a.tar?X-Amz-Signature=5ecret&b=1#c': 'https://h/a.tar',
            'https://user:5ecret@h:8080/a/{0..1}.tar': 'https://h:8080/a/{0..1}.tar',
            's3://bucket/a.tar': 's3://bucket/a.tar',
            'https://user:5ecret@[h/a?5ecret': '[h/a',
            'photos/a?b.tar': 'photos/a?b.tar'}.items():
        assert shown_url(given) == shown
    assert shown_url(7) == 7


def test_a_name_is_appended_to_a_folder():
    assert UrlFolder('http://h/') / 'a' / 'b.tar' == 'http://h/a/b.tar'
