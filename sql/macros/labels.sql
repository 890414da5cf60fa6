-- What a model learns.

-- Whether a user falls silent: no behavior within churn_days days. days_to_next counts from the
-- day itself, 0 = on it; null = none within the label horizon.
create or replace macro has_churned(days_to_next, churn_days) as
coalesce(days_to_next >= churn_days, true);
