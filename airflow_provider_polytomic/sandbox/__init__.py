"""A local Polytomic to develop and test against: ``python -m airflow_provider_polytomic.sandbox``.

It speaks the API over HTTP, its executions really move, and a test can break it in every way in
which a network or a server breaks (:mod:`.faults`). It syncs nothing to anywhere, unless it is told to
write made-up rows into a local SQLite file (:mod:`.delivery`).

Schedules are stored but never run: here an execution begins when somebody starts it.
"""
