"""A page about the run that follows it."""

import time

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.report import write_report
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError, UserError


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes ``report/index.html`` into the run's folder while it trains; an open page shows new data by itself.

    A report that cannot be written is a warning, once: it does not end the run.

    Args:
        every_s (float): seconds between two reports at least; the last one is written at the end.
    """

    priority = 'VERY_LOW'

    def __init__(self, every_s: float = 60.0):
        if every_s < 0:
            raise SettingError(f'ReportHook: every_s={every_s}; 0 or more is needed')
        self.every_s = every_s
        self._written_at = None
        self._said = False

    def after_log(self, runner, phase, row):
        if self._written_at is None or time.monotonic() - self._written_at >= self.every_s:
            self._write(runner, live=True)

    def after_train(self, runner):
        self._write(runner, live=False)

    def _write(self, runner, live):
        if not distributed.is_main():
            return
        self._written_at = time.monotonic()
        try:
            page = write_report([runner.work_dir], live=live)
        except UserError as error:
            if not self._said:
                runner.logger.warning(f'ReportHook: no report is written: {error}')
            self._said = True
        else:
            if not live:
                runner.logger.info(f'report: {page}')
