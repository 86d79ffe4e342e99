"""What developing needs and users do not: a local Airflow, the demo, the making of virtual environments."""
