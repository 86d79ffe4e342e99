"""A local Polytomic to develop and test against: ``python -m airflow_provider_polytomic.sandbox``.

It serves the API over HTTP, its executions advance with time, and a test can inject the failures of a
network or a server (:mod:`.faults`). It moves no data; on request it writes made-up rows to a local SQLite
file (:mod:`.delivery`).

Schedules are stored but never run: an execution exists only after a request or a test has started it.
"""
