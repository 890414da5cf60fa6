with users as (
    select
        ds,
        user_id
    from user_history
    union distinct
    select
        ds,
        user_id
    from user_attributes
    union distinct
    select
        ds,
        user_id
    from user_touches
),

final as (
    select
        u.ds,
        u.user_id,
        w.* exclude (ds, user_id),
        y.* exclude (ds, user_id),
        h.* exclude (ds, user_id),
        k.* exclude (ds, user_id),
        m.* exclude (ds, user_id),
        b.* exclude (ds, user_id),
        a.* exclude (ds, user_id),
        t.* exclude (ds, user_id)
    from users as u
    left join user_windows as w on u.ds = w.ds and u.user_id = w.user_id
    left join user_history as y on u.ds = y.ds and u.user_id = y.user_id
    left join user_hours as h on u.ds = h.ds and u.user_id = h.user_id
    left join user_kinds as k on u.ds = k.ds and u.user_id = k.user_id
    left join user_amounts as m on u.ds = m.ds and u.user_id = m.user_id
    left join user_breadth as b on u.ds = b.ds and u.user_id = b.user_id
    left join user_attributes as a on u.ds = a.ds and u.user_id = a.user_id
    left join user_touches as t on u.ds = t.ds and u.user_id = t.user_id
)

select * from final
