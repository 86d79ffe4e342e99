"""Airflow provider for Polytomic. It imports nothing, because Airflow imports this package in every process."""

__version__ = "0.1.0"
