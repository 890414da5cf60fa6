-- Run once, when PostgreSQL's folder is made: MLflow's server may start before our processes make its schema.
create schema if not exists dagster;
create schema if not exists mlflow;
