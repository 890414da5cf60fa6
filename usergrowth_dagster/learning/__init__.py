"""Churn and win-back models: training sets, estimators, calibration, figures, registry.

The calls other packages need are :func:`training.train`, :func:`registry.register`,
:func:`registry.newest_model` and :func:`scoring.score`. Everything heavy (mlflow, lightgbm,
sklearn, pandas, matplotlib) is imported inside the functions that use it.
"""
