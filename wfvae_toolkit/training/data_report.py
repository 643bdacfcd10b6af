"""Warnings about the pictures of a run: logged when a case first appears, and counted at the end."""

from wfvae_toolkit.datasets import BadFile, BadFileLog, PictureCounts
from wfvae_toolkit.evaluation import check_scored
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import located

SHOWN = 5  # bad files that the log names; all are in bad_files.jsonl


class TrainingData:
    """Warnings about the pictures of the training set.

    Args:
        runner (TrainingRunner): its log gets the warnings, and its folder gets ``bad_files.jsonl``.
        total (int): files of the dataset.
        max_bad_files (int): see UpdateLoop.
    """

    def __init__(self, runner, total, max_bad_files):
        self.logger = runner.logger
        self.bad_files = BadFileLog(f'{runner.work_dir}/bad_files.jsonl', limit=max_bad_files, total=total)
        self.counts = PictureCounts()
        self._named = 0

    def add(self, batch):
        """Take in a `Batch`.

        Raises:
            TooManyBadFiles: more than ``max_bad_files``.
        """
        if batch.upsampled and not self.counts.enlarged:
            self.logger.warning("too_small='upsample' enlarges pictures that are too small: "
                                f'{batch.upsampled} of the {len(batch)} in this batch. The total follows at the end')
        for profile in batch.profiles.keys() - self.counts.profiles.keys():
            self.logger.warning(f'a first picture has the colour profile {profile}; convert_to_srgb of its dataset '
                                'says if it is converted. The number follows at the end')
        self.counts.add(batch)
        try:
            self.bad_files.add(batch.bad)
        finally:
            if batch.bad:
                self.name_bad_files()

    def name_bad_files(self):
        """Log the first bad files of all ranks, on rank 0."""
        if distributed.is_main():
            self._named = _name(self.logger, self.bad_files, self._named, 'another picture replaces it')

    def finish(self):
        """Log the numbers of the whole run; every rank must call it."""
        self.name_bad_files()
        if len(self.bad_files):
            self.logger.warning(f'{len(self.bad_files)} of {self.bad_files.total} training files could not be used, '
                                f'other pictures replaced them; {self.bad_files.path} lists them')
        self.counts.say(lambda line: self.logger.warning(f'training: {line}'))


class ValidationData:
    """Warnings about validation pictures that cannot be scored.

    Args:
        runner (TrainingRunner): as above.
    """

    def __init__(self, runner):
        self.logger = runner.logger
        self.bad_files = BadFileLog(f'{runner.work_dir}/bad_files.jsonl', limit=float('inf'), split='val')
        self._named = 0

    def add(self, summary):
        """Log and list the files that an EvaluationSummary leaves out; returns their number.

        Raises:
            NothingScored: no image is left.
        """
        left_out = len(summary.skipped)
        if left_out and distributed.is_main():
            self.bad_files.add(BadFile(bad['path'], bad['reason']) for bad in summary.skipped)
            self._named = _name(self.logger, self.bad_files, self._named, 'it has no scores')
            self.logger.warning(f'validation: {left_out} of {left_out + summary.images} files could not be scored; '
                                f'{self.bad_files.path} lists them')
        with located('val_dataloader.dataset'):
            check_scored(summary)
        return left_out


def _name(logger, bad_files, named, consequence):
    """Log the new entries of a BadFileLog, at most `SHOWN` per run; returns the number logged so far."""
    for bad in bad_files.news()[:max(0, SHOWN - named)]:
        named += 1
        rest = f'; further ones are only listed in {bad_files.path}' if named == SHOWN else ''
        logger.warning(f'bad file {bad.path}: {bad.reason}; {consequence}{rest}')
    return named
