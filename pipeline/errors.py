"""Everything that can go wrong, as one small tree.

PipelineError
├── SpecError       the job spec is wrong: before any work; names the field, the value, what is allowed
├── DataError       an input violates its schema: names file, row group, row; never retried
├── ArtifactError   a stored output is missing, cut off, or not what its fingerprint says
├── StorageError    the store failed this time: the only class that is retried
├── TaskFailed      a task gave up: names step, shard and attempts; the cause is chained
└── OutputInUse     another driver runs this job

Every class takes one positional message, so that it survives pickling between processes.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of every error a user can cause or meet; the command prints its message without a traceback."""


class SpecError(PipelineError):
    """The job spec is wrong, or does not fit what the output directory already holds."""


class DataError(PipelineError):
    """An input document, file or column is not what its source says."""


class ArtifactError(PipelineError):
    """A file of ours is missing, damaged or of another version."""


class StorageError(PipelineError):
    """The storage could not be read or written this time: full, forbidden, unreachable."""


class TaskFailed(PipelineError):
    """A task failed for good."""


class OutputInUse(PipelineError):
    """Another driver runs this job; this one stops."""
