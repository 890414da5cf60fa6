-- Maps that are folded from rows.

-- An aggregate: a map with its keys in order. Each key comes once in a group.
create or replace macro sorted_map(key, value) as map_from_entries(
    list_sort(list(struct_pack(k := key, v := value)))
);

-- The same of the rows for which a condition holds; null where none does.
create or replace macro sorted_map_where(key, value, condition) as map_from_entries(
    list_sort(list(struct_pack(k := key, v := value)) filter (where condition))
);

-- A map of one field of entries with unique keys k; the field is named by a string.
create or replace macro field_map(entries, field) as as_map(
    list_transform(entries, lambda e: struct_pack(k := e.k, v := struct_extract(e, field)))
);
