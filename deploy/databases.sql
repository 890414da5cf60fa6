-- Run once, when PostgreSQL's folder is made: one database each for Dagster and MLflow beside ours.
create database dagster;
create database mlflow;
