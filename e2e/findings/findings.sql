-- Security findings, made on the server from hashes of the row number: the same rows on every machine, whatever the size.
--
--   psql -v rows=10000 [-v table=findings] [-v assets=assets] -f findings.sql
--   peers load --rows 10000 [--database findings] [--table findings]
--
-- `peers load` sends this file itself: it drops the lines that begin with a backslash and replaces :rows, :"table",
-- :"assets" and :'table'. Raise the generator number at the end with every change of what is generated.
\set ON_ERROR_STOP on
\if :{?rows}
\else
\set rows 10000
\endif
\if :{?table}
\else
\set table findings
\endif
\if :{?assets}
\else
\set assets assets
\endif

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL client_min_messages = warning;
SET LOCAL synchronous_commit = off;
SET LOCAL standard_conforming_strings = on;
SET LOCAL maintenance_work_mem = '256MB';

DO $$
BEGIN
  CREATE TYPE finding_severity AS ENUM ('info', 'low', 'medium', 'high', 'critical');
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

DROP TABLE IF EXISTS :"table";
CREATE TABLE :"table" (
  id uuid NOT NULL,
  seq bigint NOT NULL,
  tenant_id uuid NOT NULL,
  severity finding_severity NOT NULL,
  status text NOT NULL,
  title text NOT NULL,
  description text,
  score numeric(4,1),
  cost numeric,
  tags text[],
  ports int[],
  attributes jsonb NOT NULL,
  raw json,
  first_seen timestamptz NOT NULL,
  seen_at timestamptz NOT NULL,
  due date,
  fixed boolean,
  cvss real,
  risk double precision,
  fingerprint bytea,
  source_ip inet
);

INSERT INTO :"table"
SELECT
  md5('finding ' || i)::uuid,
  i,
  -- Twenty tenants: the cube makes the first one hold over a third of all rows and the last one under two percent.
  md5('tenant ' || u::bigint * u * u * 20 / 281474976710656)::uuid,
  (CASE WHEN b0 < 6 THEN 'critical' WHEN b0 < 38 THEN 'high' WHEN b0 < 120 THEN 'medium'
        WHEN b0 < 210 THEN 'low' ELSE 'info' END)::finding_severity,
  (ARRAY['open', 'open', 'open', 'open', 'in_progress', 'resolved', 'false_positive', 'risk accepted'])[1 + b1 % 8],
  CASE WHEN i % 211 = 5 THEN nasty[1 + (i / 211) % 32]
       ELSE 'CVE-' || 2017 + b2 % 10 || '-' || lpad((v % 49000)::text, 5, '0') || ': ' || kind || ' in ' || package END,
  CASE WHEN i % 9 = 4 THEN NULL
       WHEN i % 23 = 7 THEN nasty[1 + (i / 23) % 32]
       WHEN i % 1009 = 11 THEN repeat(sentence[1 + b3 % 8] || E'\n', 40)
       ELSE sentence[1 + b3 % 8] || CASE WHEN b4 < 60 THEN ' ' || sentence[1 + b4 % 8] ELSE '' END
            || ' Seen in ' || package || '.' END,
  CASE WHEN i % 53 <> 3 THEN ((v % 1001)::numeric / 10)::numeric(4,1) END,
  CASE WHEN i % 1999 = 17 THEN 'NaN'::numeric
       WHEN i % 401 = 19 THEN v::numeric * 1e31 + 7
       WHEN i % 401 = 23 THEN v::numeric * 1e-40
       WHEN i % 401 = 29 THEN round(0::numeric, (i % 9)::int)
       WHEN i % 17 = 2 THEN NULL
       ELSE round((v % 90000000 - 1500000)::numeric / 1000, (i % 7)::int) END,
  CASE WHEN i % 29 = 3 THEN NULL
       WHEN i % 31 = 5 THEN '{}'
       WHEN i % 61 = 7 THEN ARRAY['', NULL, 'NULL', 'with "quotes"', E'back\\slash', 'a,b', '{braces}', ' spaces ', E'two\nlines', 'ключ', '🔑']
       WHEN i % 997 = 13 THEN ARRAY[['internet', 'dmz'], ['team:' || b5 % 40, NULL]]
       ELSE ARRAY['team:' || b5 % 40, (ARRAY['internet', 'internal', 'dmz', 'vpn'])[1 + b6 % 4]] END,
  CASE WHEN i % 13 = 1 THEN NULL
       WHEN i % 37 = 2 THEN '{}'
       WHEN i % 997 = 3 THEN '[0:2]={22,NULL,-1}'
       WHEN i % 997 = 4 THEN '{{80,443},{8080,8443}}'
       WHEN b7 < 170 THEN ARRAY[(ARRAY[22, 80, 443, 3306, 5432, 6379, 8080, 27017])[1 + b7 % 8]]
       ELSE ARRAY[1024 + b5 * b6 % 60000, 443, b7] END,
  CASE WHEN i % 41 = 6 THEN jsonb_build_object('note', nasty[1 + (i / 41) % 32], 'empty', '{}'::jsonb, 'list', '[]'::jsonb,
                                               '', NULL, E'key "\\\t', jsonb_build_array(NULL, true, i, -0.0, 1e30, 'x,y'))
       ELSE jsonb_build_object('package', package, 'version', b2 % 9 || '.' || b3 % 30 || '.' || b4 % 12,
                               'fix', jsonb_build_object('available', b5 < 180, 'in', b6),
                               'host', 'node-' || v % 4000) END,
  CASE WHEN i % 5 = 1 THEN NULL
       WHEN i % 43 = 4 THEN E'{\n  "rule": "R' || b1 || E'",\r\n\t"path": ["a\\"b", "c\\\\d", "\\u00e9\\ud83d\\ude00\\n"],\n  "rank": 1.50\n}'
       WHEN i % 619 = 8 THEN '{"twice":1, "twice" : 2,"nul":"a\u0000b","big":123456789012345678901234567890.10,"exp":1E+400}'
       WHEN i % 619 = 9 THEN (ARRAY['null', ' "only a string" ', '[]', '-0.0', 'true', '[[[[{"deep":[]}]]]]'])[1 + (i / 619) % 6]
       ELSE '{"rule":"R' || b1 || '","engine":"scan/' || 1 + b2 % 4 || '","ms":' || v % 9000 || ',"ok":' || (b3 < 250) || '}' END::json,
  seen - make_interval(hours => b4 * b5 / 8, secs => b6),
  seen,
  CASE WHEN i % 3 = 0 THEN NULL
       WHEN i % 2003 = 7 THEN 'infinity'::date
       WHEN i % 2003 = 10 THEN '-infinity'::date
       WHEN i % 2003 = 13 THEN '0044-03-15 BC'::date
       WHEN i % 2003 = 16 THEN '10191-01-01'::date
       ELSE date '2026-01-15' + b7 END,
  CASE b6 % 3 WHEN 0 THEN true WHEN 1 THEN false END,
  CASE WHEN i % 1201 = 2 THEN 'NaN'::real WHEN b5 % 19 = 0 THEN NULL ELSE (v % 101)::real / 10 END,
  CASE WHEN i % 1201 = 3 THEN 'NaN'::double precision
       WHEN i % 1201 = 4 THEN 'Infinity'::double precision
       WHEN i % 1201 = 5 THEN '-Infinity'::double precision
       WHEN i % 1201 = 6 THEN '-0'::double precision
       WHEN i % 1201 = 8 THEN 1e-300 * b0
       WHEN b4 % 23 = 0 THEN NULL
       ELSE v / 4294967296.0::double precision END,
  CASE WHEN i % 47 = 5 THEN NULL WHEN i % 101 = 6 THEN '\x'::bytea ELSE h END,
  CASE WHEN b1 % 16 = 0 THEN NULL
       WHEN b1 % 16 < 3 THEN 'fd00:88::'::inet + v
       WHEN i % 89 = 3 THEN set_masklen('10.0.0.0'::inet + v % 16777216, 8 + b2 % 24)
       ELSE '10.0.0.0'::inet + v % 16777216 END
FROM (
  SELECT i, h, seen, u, v,
         get_byte(h, 6) AS b0, get_byte(h, 7) AS b1, get_byte(h, 8) AS b2, get_byte(h, 9) AS b3,
         get_byte(h, 10) AS b4, get_byte(h, 11) AS b5, get_byte(h, 12) AS b6, get_byte(h, 13) AS b7,
         (ARRAY['SQL injection', 'Path traversal', 'Use after free', 'Missing authorization', 'Weak cipher', 'Open redirect',
                'Out-of-bounds read', 'Hard-coded secret'])[1 + get_byte(h, 14) % 8] AS kind,
         (ARRAY['openssl', 'libxml2', 'log4j-core', 'curl', 'glibc', 'nginx', 'busybox', 'spring-web', 'lodash', 'django',
                'zlib', 'sudo'])[1 + get_byte(h, 15) % 12] AS package
  FROM (
    SELECT i, h,
           timestamptz '2026-01-01 00:00:00+00' + make_interval(secs => i * 17) + (get_byte(h, 15) * 3907 || ' us')::interval AS seen,
           get_byte(h, 0) * 256 + get_byte(h, 1) AS u,
           ((get_byte(h, 2) * 256 + get_byte(h, 3)) * 65536::bigint + get_byte(h, 4) * 256 + get_byte(h, 5)) AS v
    FROM (SELECT i, decode(md5(i::text), 'hex') AS h FROM generate_series(1::bigint, :rows) AS i OFFSET 0) AS hashed
    OFFSET 0
  ) AS numbers
  OFFSET 0
) AS row_values
CROSS JOIN (VALUES (
  ARRAY[
    'The service accepts input from the network without checking its length, so a crafted request can read adjacent memory.',
    'An attacker with access to the local network may bypass authentication.',
    'The installed version is affected; update to the fixed release.',
    'Credentials are written to the log in clear text when debug output is enabled, and the log is readable by every user.',
    'No fix is available.',
    'The certificate expires within thirty days; renew it before clients start to fail, and check the intermediate as well.',
    'User-controlled data reaches a shell command.',
    'The port is reachable from the internet although the policy of this tenant says that only the bastion host may connect.'
  ],
  ARRAY[
    '', ' ', '\N', 'NULL', 'null', E'\\.', E'before\n\\.\nafter', '"', '""', 'He said "no", then left', E'C:\\temp\\new\\x', E'\\',
    E'tab\there', E'line one\nline two', E'carriage\rreturn', E'dos\r\nline', E'\n', 'a,b;c|d', 'it''s', '=1+1', '<b>&amp;</b>',
    '漢字とかな', 'Ünïcödé ß', '😀 👩‍👩‍👧‍👦 🏴', E'e\u0301 o\u0308 (combining)', E'\ufeffmark', E'zero\u200bwidth', 'עברית العربية',
    E'line\u2028separator', E'control\u0001\u001f\u007f', '  leading and trailing  ', '{"looks": ["like", "json"]}'
  ]
)) AS texts (sentence, nasty);

ALTER TABLE :"table" ADD PRIMARY KEY (id), ADD UNIQUE (seq);
CREATE INDEX ON :"table" (tenant_id, severity);
CREATE INDEX ON :"table" (seen_at);

-- One asset to twenty findings, and at least one.
DROP TABLE IF EXISTS :"assets";
CREATE TABLE :"assets" (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  hostname text NOT NULL UNIQUE,
  os text,
  metadata jsonb NOT NULL,
  created_at timestamptz NOT NULL
);
INSERT INTO :"assets"
SELECT
  md5('asset ' || i)::uuid,
  md5('tenant ' || u::bigint * u * u * 20 / 281474976710656)::uuid,
  'node-' || i || '.' || (ARRAY['eu', 'us', 'ap'])[1 + get_byte(h, 2) % 3] || '.example.com',
  (ARRAY['debian 12', 'ubuntu 24.04', 'alpine 3.22', 'windows "server" 2025', NULL])[1 + get_byte(h, 3) % 5],
  jsonb_build_object('cpus', 1 << get_byte(h, 4) % 7, 'labels', jsonb_build_object('tier', get_byte(h, 5) % 3, 'owner', E'team\t"' || get_byte(h, 6) || '"')),
  timestamptz '2024-05-01 00:00:00+00' + make_interval(mins => (i * 7)::int)
FROM (
  SELECT i, h, get_byte(h, 0) * 256 + get_byte(h, 1) AS u
  FROM (SELECT i, decode(md5('asset ' || i), 'hex') AS h
        FROM generate_series(1::bigint, greatest(:rows / 20, 1)) AS i OFFSET 0) AS hashed
  OFFSET 0
) AS row_values;

DO $$
BEGIN
  GRANT USAGE ON SCHEMA public TO exporter;
EXCEPTION WHEN undefined_object THEN NULL;
END $$;

-- What is in the table, for whoever wants to know whether it has to be made again. It is written last.
CREATE OR REPLACE FUNCTION pg_temp.mark(target regclass, rows bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('COMMENT ON TABLE %s IS %L', target, 'pgexport findings: generator 1, rows ' || rows);
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'exporter') THEN
    EXECUTE format('GRANT SELECT ON %s TO exporter', target);
  END IF;
END $$;
\o /dev/null
SELECT pg_temp.mark(quote_ident(:'assets')::regclass, :rows);
SELECT pg_temp.mark(quote_ident(:'table')::regclass, :rows);
\o
COMMIT;
VACUUM (FREEZE, ANALYZE) :"table";
VACUUM (FREEZE, ANALYZE) :"assets";
