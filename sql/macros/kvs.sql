-- Landed key-value text: pairs key:value, a space between two. The contract keeps texts out that
-- name a key twice, so entries are a map as they are.

-- Entries of numbers, from a list of pairs.
create or replace macro number_entries(pairs) as list_transform(
    pairs,
    lambda pair: struct_pack(
        k := split_part(pair, ':', 1),
        v := cast(split_part(pair, ':', 2) as double)
    )
);

-- A map of numbers, from a text.
create or replace macro kvs_numbers(kvs) as as_map(number_entries(string_split(kvs, ' ')));

-- A map of strings, from a text.
create or replace macro kvs_strings(kvs) as as_map(list_transform(
    string_split(kvs, ' '),
    lambda pair: struct_pack(
        k := split_part(pair, ':', 1),
        v := split_part(pair, ':', 2)
    )
));
