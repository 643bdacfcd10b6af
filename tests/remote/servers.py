"""nginx and moto's S3 server on loopback, with the folder that they serve."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CONFIG = '''
daemon off;
master_process off;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {served};
        location /slow/ {{ alias {served}/; limit_rate 400k; }}
        location /whole/ {{ alias {served}/; max_ranges 0; }}
        location /private/ {{ alias {served}/; auth_basic pictures; auth_basic_user_file {folder}/users; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
    }}
}}
'''


def missing_programs():
    """What this system lacks, as a list of sentences."""
    missing = [] if shutil.which('nginx') else ['nginx is missing: apt-get install nginx-light']
    try:
        import moto.server  # noqa: F401
    except ImportError as error:
        missing.append(f'{error}: pip install -r requirements/remote_tests.txt')
    return missing


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


class Nginx:
    """Serves ``served``: at / as it is, at /slow/ with 400 kB/s, at /whole/ without ranges, at /private/ for
    user:5ecret, and at /moved/ by a redirect. Its logs are in ``folder``.
    """

    def __init__(self, served, folder):
        self.served, self.folder, self.port = served, folder, free_port()
        self.url = f'http://127.0.0.1:{self.port}'
        (folder / 'users').write_text('user:{PLAIN}5ecret\n', encoding='utf-8')
        (folder / 'nginx.conf').write_text(CONFIG.format(folder=folder, served=served, port=self.port),
                                           encoding='utf-8')
        self.start()

    def start(self):
        self._process = subprocess.Popen(['nginx', '-e', str(self.folder / 'error.log'), '-c',
                                          str(self.folder / 'nginx.conf')], stdin=subprocess.DEVNULL)
        wait_for_port(self.port, self._process)

    def kill(self):
        """SIGKILL: connections are cut, and new ones refused."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def requests(self):
        """The paths that were asked for, in order."""
        lines = (self.folder / 'access.log').read_text(encoding='utf-8').splitlines()
        return [line.split('"')[1].split()[1] for line in lines]


class S3:
    """moto's server; ``environment`` holds what a client needs."""

    def __init__(self, folder):
        self.port = free_port()
        self.environment = {'AWS_ENDPOINT_URL': f'http://127.0.0.1:{self.port}', 'AWS_ACCESS_KEY_ID': 'user',
                            'AWS_SECRET_ACCESS_KEY': '5ecret', 'AWS_DEFAULT_REGION': 'us-east-1'}
        with open(folder / 'moto.log', 'wb') as log:
            self._process = subprocess.Popen([sys.executable, '-m', 'moto.server', '-H', '127.0.0.1', '-p',
                                              str(self.port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for_port(self.port, self._process)

    def client(self):
        import boto3

        return boto3.client('s3', endpoint_url=self.environment['AWS_ENDPOINT_URL'], aws_access_key_id='user',
                            aws_secret_access_key='5ecret', region_name='us-east-1')

    def put_folder(self, folder, bucket, prefix):
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(Path(folder).iterdir()):
            client.put_object(Bucket=bucket, Key=f'{prefix}/{path.name}', Body=path.read_bytes())

    def kill(self):
        self._process.kill()
        self._process.wait()


def wait_for_port(port, process, patience_s=120):
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        assert process.poll() is None, f'the server has ended with {process.returncode}'
        with socket.socket() as tried:
            if tried.connect_ex(('127.0.0.1', port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f'nothing listens on {port}')


def remove_blocks(cache):
    """Empty a cache of its blocks, and leave the indexes."""
    for path in Path(cache).glob('*.blocks'):
        os.unlink(path)
