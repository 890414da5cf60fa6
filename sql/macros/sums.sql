-- Aggregates.

-- Sums of fractions depend on the order of the rows; their ninth decimal does not.
create or replace macro stable_sum(value) as round(sum(value), 9);

-- The sum over the rows for which a condition holds; 0 where none does.
create or replace macro sum_where(value, condition) as coalesce(
    sum(value) filter (where condition), 0
);

-- The part of a sum that is of the rows for which a condition holds.
create or replace macro share_where(value, condition) as
coalesce(sum(value) filter (where condition), 0) / nullif(sum(value), 0);
