"""Airflow provider for Polytomic. Imports nothing: Airflow imports this package in every process."""

__version__ = "0.1.0"
