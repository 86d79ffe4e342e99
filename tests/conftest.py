"""For all tests: the fixture of a sandbox behind the default connection, as users have it."""

pytest_plugins = ["airflow_provider_polytomic.sandbox.pytest_plugin"]
