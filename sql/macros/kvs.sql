-- Landed key-value text: pairs key:value, a space between two.

-- A map of numbers, from a list of pairs.
create or replace macro number_map(pairs) as map_from_entries(list_transform(
    pairs,
    lambda pair: struct_pack(
        k := split_part(pair, ':', 1),
        v := cast(split_part(pair, ':', 2) as double)
    )
));

-- A map of numbers, from a text.
create or replace macro kvs_numbers(kvs) as number_map(string_split(kvs, ' '));

-- A map of strings, from a text.
create or replace macro kvs_strings(kvs) as map_from_entries(list_transform(
    string_split(kvs, ' '),
    lambda pair: struct_pack(
        k := split_part(pair, ':', 1),
        v := split_part(pair, ':', 2)
    )
));
