-- A table of what readers get wrong. Rows that are odd hold what Parquet has no values for.
CREATE TYPE mood AS ENUM ('ok', 'so so', 'it''s "bad"', 'a,b');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN short AS varchar(9);
CREATE TABLE kinds (
  id int PRIMARY KEY, odd bool NOT NULL, "Quoted ""name"", é" text,
  flag bool, i2 int2, i8 int8, f4 float4, f8 float8, money_like numeric(20,4), exact numeric,
  words text, padded char(6), dom short, state mood, raw bytea, id128 uuid,
  day date, clock time, local timestamp, moment timestamptz, span interval,
  doc json, docb jsonb, address inet, numbers int4[], names text[], pair pair, between_days daterange
);
INSERT INTO kinds
SELECT n, false, w, n % 3 = 0, n - 20, 9223372036854775807 - n, n / 3.0::float4, n / 7.0::float8, (n - 20) * 1234567890.1234,
  ('1e' || n)::numeric + 0.5, w, left(regexp_replace(w, '\s+$', ''), 6), left(w, 9), (enum_range(NULL::mood))[1 + n % 4], convert_to(w, 'UTF8') || '\x00ff',
  md5(n::text)::uuid, date '1999-12-25' + n * 97, time '23:59:59.999999' - n * interval '1 second 1 us',
  timestamp '2026-02-28 12:00:00.000001' + n * interval '11 hours', timestamptz '1969-12-31 23:59:59.5+00' + n * interval '7 days', n * interval '1 month 2 days 03:04:05.6',
  to_json(w), jsonb_build_object(w || '.', w, 'n', n, 'l', jsonb_build_array(1.50, NULL, true)), '10.0.0.0/8'::inet + n,
  ARRAY[n, NULL, -n], ARRAY[w, '', NULL, 'NULL', 'a "b", {c}'], ROW(n, w)::pair, daterange(date '2026-01-01', date '2026-01-01' + n)
FROM (SELECT w, n::int FROM unnest(ARRAY[
  'plain', '', ' ', '  both  ', 'a,b', 'a;b', '"', '""', '"quoted"', 'it''s', E'two\nlines', E'\n', E'\r', E'dos\r\nlines', E'tab\t', '\', '\\', '\n',
  '\N', '\.', E'\\.\n', 'NULL', 'null', 'nan', 'true', '1e5', '007', '-', '#', '=1+1', '{"a": 1}', '[', '漢字', 'é', U&'e\0301', '😀', U&'\2028', U&'\FEFF' || 'bom',
  E'\x01', E'\x1f', E'\x7f', '<b>&amp;</b>', repeat('long "text", ', 2000)
]) WITH ORDINALITY u(w, n)) u;
-- Nothing but NULL, and the ends of what types hold.
INSERT INTO kinds (id, odd) VALUES (1000, false);
INSERT INTO kinds (id, odd, f4, f8, i2, i8, money_like, exact, day, local, moment, clock, raw, words, numbers, names, docb) VALUES
  (1001, false, 'NaN', 'NaN', -32768, -9223372036854775808, -9999999999999999.9999, 1e-30, '0001-01-01', '0001-01-01', '0001-01-02', '00:00', '', '', '{}', '{}', '{}'),
  (1002, false, 'Infinity', '-Infinity', 32767, 9223372036854775807, 9999999999999999.9999, 123456789012345678901234567890.123456789, '9999-12-31',
   '9999-12-31 23:59:59.999999', '9999-12-30 00:00+00', '23:59:59.999999', '\x', 'x', '{1}', '{NULL}', 'null'),
  (1003, false, '-0', 5e-324, 0, 0, 0, 0.000, '1970-01-01', 'epoch', 'epoch', '12:00', '\x00', NULL, NULL, NULL, '"x"'),
  (1004, true, 1, 1, 1, 1, 'NaN', 'NaN', 'infinity', '-infinity', 'infinity', '24:00', NULL, 'odd', '[0:1]={7,8}', '{{a,b},{c,d}}', '1e3'),
  (1005, true, 1, 1, 1, 1, NULL, '-Infinity', '0044-03-15 BC', '0044-03-15 12:00 BC', '294276-12-31 23:59:59+00', NULL, NULL, NULL, '{{1,2},{3,4}}', NULL, '[]');
-- What they are split by, as a date and as texts that mean something in paths.
CREATE TABLE days AS SELECT n AS id, date '2026-11-25' + n % 3 AS day, (ARRAY['a/b=c', '50% é', '..', 'x y+z', '', '?#&"''\{}[]^:*'])[1 + n % 6] AS kind
FROM generate_series(0, 29) n;
