-- A stand-in for Amazon's extension aws_s3 (with aws_commons), export only: see README.md.
--
--   psql -v program=/absolute/path/of/upload.py [-v scratch=/tmp] -f aws_s3.sql
--
-- To be run by a superuser, once in each database. Tests only: never where anybody's data are.
\set ON_ERROR_STOP on
\if :{?scratch} \else
  \set scratch /tmp
\endif
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

DROP SCHEMA IF EXISTS aws_s3, aws_commons, aws_s3_standin CASCADE;
CREATE SCHEMA aws_commons;
CREATE SCHEMA aws_s3;
CREATE SCHEMA aws_s3_standin;

CREATE TYPE aws_commons._s3_uri_1 AS (bucket text, file_path text, region text);

CREATE FUNCTION aws_commons.create_s3_uri(bucket text, file_path text, region text) RETURNS aws_commons._s3_uri_1
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT ROW(bucket, file_path, region)::aws_commons._s3_uri_1 $$;

-- Settings of the host, which no session may change. `role_file` stands for the IAM role of the cluster: JSON with endpoint, region,
-- access_key and secret_key; without it exports are refused.
CREATE TABLE aws_s3_standin.setting (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO aws_s3_standin.setting VALUES ('program', :'program'), ('scratch', :'scratch');

CREATE FUNCTION aws_s3_standin.associate_role(role_file text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ INSERT INTO aws_s3_standin.setting VALUES ('role_file', role_file) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value $$;

CREATE FUNCTION aws_s3_standin.dissociate_role() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ DELETE FROM aws_s3_standin.setting WHERE name = 'role_file' $$;

-- Grants what a login needs, as on AWS, and makes the function through which the stand-in runs a query with that login's rights:
-- COPY … TO PROGRAM wants others, which the login must not have.
CREATE FUNCTION aws_s3_standin.admit(login name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $admit$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA aws_s3, aws_commons TO %I', login);
  EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA aws_s3, aws_commons TO %I', login);
  EXECUTE format('GRANT USAGE ON SCHEMA aws_s3_standin TO %I', login);
  EXECUTE format($function$
    CREATE OR REPLACE FUNCTION aws_s3_standin.%1$I(statement text, path text) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
    AS $$
    BEGIN
      PERFORM set_config('search_path', path, true);
      RETURN QUERY EXECUTE statement;
    END
    $$;
    ALTER FUNCTION aws_s3_standin.%1$I(text, text) OWNER TO %2$I;
    REVOKE ALL ON FUNCTION aws_s3_standin.%1$I(text, text) FROM PUBLIC, %2$I$function$, 'as ' || login, login);
END
$admit$;

-- A session's own settings, for what tests want to see and what AWS does not document; see README.md.
CREATE FUNCTION aws_s3_standin.knob(name text, otherwise text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(current_setting('aws_s3.' || name, true), ''), otherwise) $$;

-- A call of the program, for the shell. It holds no secret: the role is in a file.
CREATE FUNCTION aws_s3_standin.command(action text, scratch text, request jsonb DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT 'exec python3 -IS ' || string_agg('''' || replace(word, '''', '''\''''') || '''', ' ' ORDER BY n)
  FROM unnest(ARRAY[(SELECT value FROM aws_s3_standin.setting WHERE name = 'program'), action, scratch, request::text])
    WITH ORDINALITY words (word, n)
  WHERE word IS NOT NULL
$$;

CREATE FUNCTION aws_s3_standin.export(
  query text, bucket text, file_path text, region text, options text, kms_key text, path text,
  OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
  option CONSTANT text := $re$\w+(\s+([\w.]+|'([^']|'')*'|[eE]'([^'\\]|''|\\.)*'|\*|\([\w\s,"]*\)))?$re$;
  caller CONSTANT text := CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END;
  runner CONSTANT text := format('aws_s3_standin.%I', 'as ' || caller);
  role_file CONSTANT text := (SELECT s.value FROM aws_s3_standin.setting s WHERE s.name = 'role_file');
  scratch CONSTANT text := (SELECT s.value FROM aws_s3_standin.setting s WHERE s.name = 'scratch') || '/aws_s3-' || gen_random_uuid();
  request jsonb;
  names text[];
  types oid[];
  statement text;
  result jsonb;
  failure text;
BEGIN
  IF role_file IS NULL THEN
    RAISE EXCEPTION 'credentials stored with the database cluster can''t be accessed'
      USING ERRCODE = 'internal_error',
        HINT = 'Has the IAM role Amazon Resource Name (ARN) been associated with the feature-name "s3Export"?';
  END IF;
  IF to_regprocedure(runner || '(text, text)') IS NULL THEN
    RAISE EXCEPTION 'the stand-in for aws_s3 does not know the login %', caller
      USING ERRCODE = 'insufficient_privilege', HINT = format('SELECT aws_s3_standin.admit(%L)', caller);
  END IF;

  -- They are put into a statement that runs with the superuser's rights.
  IF options !~ ('^\s*(' || option || '(\s*,\s*' || option || ')*\s*)?$') THEN
    RAISE EXCEPTION 'these are no options of COPY: %', options USING ERRCODE = 'syntax_error';
  END IF;

  -- The columns, from a join that never runs the query. As on AWS the query is put in as it is: a semicolon at its end is a syntax error.
  EXECUTE format('SELECT array(SELECT json_object_keys(names::json)) FROM %s($1, $2) AS t (names text)', runner) INTO names
    USING 'SELECT row_to_json(s)::text FROM (SELECT q.* FROM (SELECT) one LEFT JOIN (' || query || ') q ON false) s', path;
  EXECUTE format('SELECT types FROM %s($1, $2) AS t (types oid[])', runner) INTO types
    USING format('SELECT ARRAY[%s] FROM (SELECT) one LEFT JOIN (', (
        SELECT string_agg('pg_catalog.pg_typeof(q.c' || n || ')::oid', ', ' ORDER BY n) FROM generate_subscripts(names, 1) n))
      || query || ') q (' || (SELECT string_agg('c' || n, ', ' ORDER BY n) FROM generate_subscripts(names, 1) n) || ') ON false', path;

  -- COPY prints a void column, as of pg_sleep(), as an empty text, which a function's result cannot have.
  IF 'void'::regtype = ANY (types) THEN
    query := (SELECT format('SELECT %s FROM (', string_agg('c' || n || CASE types[n] WHEN 'void'::regtype THEN '::text' ELSE '' END, ', ' ORDER BY n))
        || query || format(') q (%s)', string_agg('c' || n, ', ' ORDER BY n))
      FROM generate_subscripts(types, 1) n);
    types := array_replace(types, 'void'::regtype::oid, 'text'::regtype::oid);
  END IF;

  request := jsonb_build_object(
    'role_file', role_file, 'bucket', bucket, 'key', file_path, 'region', region, 'options', options, 'kms_key', kms_key,
    'file_bytes', aws_s3_standin.knob('file_bytes', '6442450944')::bigint,
    'split_rows', aws_s3_standin.knob('split_rows', 'off')::boolean,
    'repeat_header', aws_s3_standin.knob('repeat_header', 'off')::boolean,
    'empty_file', aws_s3_standin.knob('empty_file', 'on')::boolean);
  BEGIN
    statement := (
      SELECT format('COPY (SELECT %s FROM %s(%L, %L) AS t (%s)) TO PROGRAM %L %s',
        string_agg(format('c%s AS %I', n, names[n]), ', ' ORDER BY n), runner, query, path,
        string_agg(format('c%s %s', n, format_type(types[n], -1)), ', ' ORDER BY n),
        aws_s3_standin.command('begin', scratch, request), 'WITH (' || nullif(btrim(options), '') || ')')
      FROM generate_subscripts(names, 1) n);
    -- COPY prints names of types, tables and so on as the caller's path has it.
    PERFORM set_config('search_path', path, true);
    EXECUTE statement;
    GET DIAGNOSTICS rows_uploaded = ROW_COUNT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', aws_s3_standin.command('finish', scratch));
    result := pg_read_file(scratch || '/result.json')::jsonb;
    EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', format('exec rm -rf %s', scratch));
  EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- With the subtransaction its path has ended too.
    failure := pg_read_file(scratch || '/error.txt', 0, 8192, true);
    BEGIN
      EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', aws_s3_standin.command('abort', scratch));
    EXCEPTION WHEN external_routine_exception THEN
      -- Where S3 cannot be reached, an upload cannot be aborted: the bucket's lifecycle rule does it.
    END;
    EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', format('exec rm -rf %s', scratch));
    IF failure IS NOT NULL THEN
      RAISE EXCEPTION 'could not upload to Amazon S3'
        USING ERRCODE = 'system_error', DETAIL = format('Amazon S3 client returned ''%s''.', failure);
    END IF;
    RAISE;
  END;
  files_uploaded := (result ->> 'files')::bigint;
  bytes_uploaded := (result ->> 'bytes')::bigint;
  rows_uploaded := rows_uploaded + aws_s3_standin.knob('extra_rows', '0')::bigint;
  IF aws_s3_standin.knob('wrap_rows', 'on')::boolean THEN
    -- The extension counts in 32 bits, with a sign.
    rows_uploaded := (rows_uploaded + 2147483648) % 4294967296 - 2147483648;
  END IF;
END
$$;

CREATE FUNCTION aws_s3.query_export_to_s3(
  query text, bucket text, file_path text, region text DEFAULT NULL, options text DEFAULT NULL, kms_key text DEFAULT NULL,
  OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint)
LANGUAGE sql
AS $$ SELECT * FROM aws_s3_standin.export($1, $2, $3, $4, $5, $6, pg_catalog.current_setting('search_path')) $$;

CREATE FUNCTION aws_s3.query_export_to_s3(
  query text, s3_info aws_commons._s3_uri_1, options text DEFAULT NULL, kms_key text DEFAULT NULL,
  OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint)
LANGUAGE sql
AS $$
  SELECT * FROM aws_s3_standin.export($1, ($2).bucket, ($2).file_path, ($2).region, $3, $4, pg_catalog.current_setting('search_path'))
$$;

-- As an extension from before June 2023 has it.
CREATE FUNCTION aws_s3_standin.forget_kms_key() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $forget$
BEGIN
  DROP FUNCTION aws_s3.query_export_to_s3(text, text, text, text, text, text);
  DROP FUNCTION aws_s3.query_export_to_s3(text, aws_commons._s3_uri_1, text, text);
  CREATE FUNCTION aws_s3.query_export_to_s3(
    query text, bucket text, file_path text, region text DEFAULT NULL, options text DEFAULT NULL,
    OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint)
  LANGUAGE sql
  AS $$ SELECT * FROM aws_s3_standin.export($1, $2, $3, $4, $5, NULL, pg_catalog.current_setting('search_path')) $$;
  CREATE FUNCTION aws_s3.query_export_to_s3(
    query text, s3_info aws_commons._s3_uri_1, options text DEFAULT NULL,
    OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint)
  LANGUAGE sql
  AS $$
    SELECT * FROM aws_s3_standin.export($1, ($2).bucket, ($2).file_path, ($2).region, $3, NULL, pg_catalog.current_setting('search_path'))
  $$;
  REVOKE ALL ON ALL FUNCTIONS IN SCHEMA aws_s3 FROM PUBLIC;
END
$forget$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA aws_s3, aws_s3_standin FROM PUBLIC;
GRANT EXECUTE ON FUNCTION aws_s3_standin.export TO PUBLIC;
COMMIT;
