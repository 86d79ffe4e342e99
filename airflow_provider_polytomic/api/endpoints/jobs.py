"""Background jobs, such as exports of log files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import models
from ..call import Call
from ..parsers import parse_one
from ..plan import Request, build_path

if TYPE_CHECKING:
    from ..models import Job

_job = parse_one(lambda: models.Job)


def get(job_type: str, job_id: str) -> Call[Job]:
    """``GET /api/jobs/{type}/{job_id}``: the status of a job, and its result.

    :param job_type: the ``type`` of the job, for instance ``exportlogs``.
    """
    return Call(Request("GET", build_path("/api/jobs/{job_type}/{job_id}", job_type=job_type, job_id=job_id)), _job)
