"""A page that opens from disk and answers: which pictures are worst, is one run better than another, what differs?"""

from .write import write_report

__all__ = ['write_report']
