"""Debian's firefox-esr, driven by Marionette: its own protocol of JSON over a socket, which needs no driver."""

import json
import socket
import subprocess
import time
from base64 import b64decode

START_S = 60.0  # until it listens


class Firefox:
    """A headless Firefox with a fresh profile, which no setting loosens for pages from disk.

    Args:
        folder (Path): for the profile.
    """

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        folder.mkdir(parents=True)
        (folder / 'user.js').write_text(f'user_pref("marionette.port", {port});\n', encoding='utf-8')
        # With system access the error console can be read.
        self.process = subprocess.Popen(
            ['firefox-esr', '--headless', '--marionette', '--remote-allow-system-access', '--no-remote',
             '--profile', str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.socket = self._connect(port)
        self.stream = self.socket.makefile('rb')
        self._receive()  # its greeting
        self.number = 0
        self.command('WebDriver:NewSession', capabilities={})

    def _connect(self, port):
        end = time.monotonic() + START_S
        while True:
            try:
                return socket.create_connection(('127.0.0.1', port), timeout=START_S)
            except ConnectionRefusedError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.2)

    def _receive(self):
        length = b''
        while not length.endswith(b':'):
            length += self.stream.read(1)
        return json.loads(self.stream.read(int(length[:-1])))

    def command(self, name, **parameters):
        """Send a command and return its result; RuntimeError with Firefox's message if it fails."""
        self.number += 1
        message = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(str(len(message)).encode() + b':' + message)
        _, _, error, result = self._receive()
        if error:
            raise RuntimeError(f'{name}: {error["error"]}: {error["message"]}')
        return result.get('value', result) if isinstance(result, dict) else result

    def run(self, script, *arguments):
        """The value that a script in the page returns."""
        return self.command('WebDriver:ExecuteScript', script=script, args=list(arguments))

    def wait(self, condition, timeout_s=20.0):
        """Until an expression is true in the page."""
        end = time.monotonic() + timeout_s
        while not self.run(f'return Boolean({condition})'):
            assert time.monotonic() < end, f'not so after {timeout_s} s: {condition}'
            time.sleep(0.1)

    def find(self, selector):
        """An element, for `click` and `press`."""
        return next(iter(self.command('WebDriver:FindElement', using='css selector', value=selector).values()))

    def click(self, selector):
        self.command('WebDriver:ElementClick', id=self.find(selector))

    def press(self, selector, keys):
        self.command('WebDriver:ElementSendKeys', id=self.find(selector), text=keys)

    def errors(self):
        """Messages in the error console that pages and their scripts caused."""
        self.command('Marionette:SetContext', value='chrome')
        found = self.run('''return Services.console.getMessageArray()
            .filter((one) => one instanceof Ci.nsIScriptError && one.sourceName.startsWith("file:"))
            .map((one) => one.errorMessage);''')
        self.command('Marionette:SetContext', value='content')
        return found

    def screenshot(self, path):
        path.write_bytes(b64decode(self.command('WebDriver:TakeScreenshot', full=False)))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)
