"""The provider's section of Airflow's configuration: ``[polytomic]``."""

from __future__ import annotations

import functools
import logging

from airflow_provider_polytomic._airflow.compat import conf

log = logging.getLogger(__name__)

SECTION = "polytomic"


def read_limit(option: str, default: int, most: int | None = None) -> int:
    """Read a whole number from 1 on. An invalid value is ignored with a warning.

    :param option: in the section, for instance ``triggerer_connections``.
    :param default: without a value, and for an invalid one.
    :param most: a larger value is reduced to this.
    """
    value = conf.get(SECTION, option, fallback="")
    number = _parse_limit(option, str(value or default), default)
    return number if most is None else min(number, most)


@functools.lru_cache(maxsize=16)  # so that a value is warned of once, although each trigger reads it
def _parse_limit(option: str, text: str, default: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number >= 1:
        return number
    log.warning(
        "The option %s in the section [%s] of Airflow's configuration must be a whole number from 1 on, not %.100r: "
        "using %d",
        option,
        SECTION,
        text,
        default,
    )
    return default
